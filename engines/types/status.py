"""What the service says of itself: models, health, metrics."""

from typing import Literal

import msgspec

from engines.types.common import Capability

ModelPhase = Literal["unloaded", "loading", "ready", "unloading", "failed"]


class ModelStatus(msgspec.Struct, frozen=True):
    """A model that is configured or installed. `names` are what clients may call it; the first is its main one.

    `capability` None: it can't be run here, or isn't here and nothing is known of it. `default_sampling` holds where a
    request doesn't say.

    `reproducible`: the same request with the same seed gives the same text, alone or among others. That holds in
    float32 on a processor. For a GPU, half precision and quantised weights the kernels depend on how many requests are
    computed together; there a near tie between two tokens may be decided otherwise.
    """

    names: tuple[str, ...]
    capability: Capability | None
    phase: ModelPhase
    installed: bool
    running: int = 0
    waiting: int = 0
    lease_bytes: int = 0
    created: int = 0
    detail: str = ""
    default_sampling: dict[str, float | int] = {}
    reproducible: bool = False


class Health(msgspec.Struct, frozen=True):
    """`ok` unless a busy runner hangs or a model keeps dying; `problems` names model and reason, single deaths too.

    `conditions` is what the system says of the machine's memory pressure, heat and battery; `paused_by` are the
    reasons why background work waits, none if it doesn't.
    """

    ok: bool
    problems: tuple[str, ...] = ()
    paused_by: tuple[str, ...] = ()
    conditions: dict[str, float | str | bool] = {}


class Metric(msgspec.Struct, frozen=True):
    """One sample for monitoring, in Prometheus' terms."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()
