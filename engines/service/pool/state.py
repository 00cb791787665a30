"""What the pool knows, what happens to it, and what it may ask for."""

import math
from bisect import insort
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from engines.types.common import Priority
from engines.types.errors import QueueFull, ServiceError

LONGEST_BACK_OFF = 60.0
YIELD_SECONDS = 10.0


class PoolLimits(msgspec.Struct, frozen=True):
    """`budget` in bytes; `idle_unload` and `patience` in seconds (`idle_unload` 0 is at once, -1 never).

    `ceiling` is what the machine can give at all, in bytes, 0 as long as nobody knows.
    """

    budget: int
    max_running: int
    queue_limit: int
    idle_unload: float
    patience: float
    ceiling: int = 0


class Spec(msgspec.Struct, frozen=True):
    """A model's needs in bytes: weights with work space, and the room for KV that it would like to have."""

    model: str
    fixed_bytes: int
    kv_wish: int
    pinned: bool = False


class Job(msgspec.Struct, frozen=True):
    """A request that waits or runs; `kv_bytes` is the room that it needs.

    One that is `modest` takes only what nobody else needs: for it nothing is unloaded or shrunk, and where there is no
    room it is refused. A background job gives way to interactive ones that arrive within `YIELD_SECONDS` after it.
    """

    id: int
    model: str
    kv_bytes: int
    arrived: float
    attempts: int = 0
    modest: bool = False
    priority: Priority = "interactive"

    @property
    def age(self) -> tuple[float, int]:
        """The order in which requests are served; no two are equal."""
        return self.arrived + (YIELD_SECONDS if self.priority == "background" else 0.0), self.id


@dataclass
class Resident:
    spec: Spec
    phase: Literal["loading", "ready", "unloading"]
    lease: int
    running: dict[int, Job] = field(default_factory=dict)
    last_used: float = 0.0

    @property
    def kv_room(self) -> int:
        return self.lease - self.spec.fixed_bytes

    @property
    def kv_free(self) -> int:
        return self.kv_room - sum(job.kv_bytes for job in self.running.values())


@dataclass
class ModelFault:
    """How often a model failed in a row, and until when it is left alone; with a `refusal` until its files change."""

    count: int
    not_before: float
    reason: str
    refusal: ServiceError | None = None


@dataclass
class State:
    """All that decisions depend on. `queue` is in order of age; `wanted` are to be loaded without a request,
    `draining` were asked to unload. `memory_is_scarce`: the system reports pressure, and idle models go soon."""

    limits: PoolLimits
    residents: dict[str, Resident] = field(default_factory=dict)
    queue: list[Job] = field(default_factory=list)
    faults: dict[str, ModelFault] = field(default_factory=dict)
    specs: dict[str, Spec] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)
    draining: set[str] = field(default_factory=set)
    memory_is_scarce: bool = False


class LoadModel(msgspec.Struct, frozen=True):
    model: str
    lease: int


class ResizeLease(msgspec.Struct, frozen=True):
    """A loaded model's lease becomes another: KV room comes or goes, the weights stay."""

    model: str
    lease: int


class Unload(msgspec.Struct, frozen=True):
    model: str


class Start(msgspec.Struct, frozen=True):
    job: Job


class Refuse(msgspec.Struct, frozen=True):
    job: Job
    error: ServiceError


class WakeAt(msgspec.Struct, frozen=True):
    time: float


Effect = LoadModel | ResizeLease | Unload | Start | Refuse | WakeAt


def register(state: State, spec: Spec) -> None:
    """A model is known, or its needs are known better."""
    state.specs[spec.model] = spec


def arrive(state: State, job: Job) -> None:
    """Raises `QueueFull`; how long the oldest has waited is the honest estimate of when to come back."""
    waiting = [other for other in state.queue if other.model == job.model]
    if len(waiting) >= state.limits.queue_limit:
        age = job.arrived - waiting[0].arrived if waiting else 0.0
        raise QueueFull(
            f"{len(waiting)} requests wait for this model already, which is the limit (queue_limit). Try again later.",
            retry_after=min(30.0, max(1.0, age)),
        )
    insort(state.queue, job, key=lambda waiting: waiting.age)


def requeue(state: State, job: Job) -> None:
    """A job whose runner died waits again, before all that are younger."""
    again = msgspec.structs.replace(job, attempts=job.attempts + 1)
    insort(state.queue, again, key=lambda waiting: waiting.age)


def loaded(state: State, model: str, now: float) -> None:
    resident = state.residents.get(model)
    if resident is not None and resident.phase == "loading":
        resident.phase = "ready"
        resident.last_used = now
        state.wanted.discard(model)


def load_failed(state: State, model: str, reason: str, now: float) -> None:
    state.residents.pop(model, None)
    state.wanted.discard(model)
    state.draining.discard(model)
    _blame(state, model, reason, now)


def refused(state: State, model: str, error: ServiceError) -> None:
    """The checkpoint can't be run: trying again is no use before `forgive`."""
    load_failed(state, model, error.message, math.inf)
    state.faults[model] = ModelFault(1, math.inf, error.message, error)


def forgive(state: State, model: str) -> None:
    """The model's files are others now."""
    state.faults.pop(model, None)


def died(state: State, model: str, reason: str, now: float) -> list[Job]:
    """The runner ended by itself; the jobs that ran there, oldest first."""
    resident = state.residents.pop(model, None)
    state.draining.discard(model)
    if resident is None:
        return []
    _blame(state, model, reason, now)
    return sorted(resident.running.values(), key=lambda job: job.id)


def unloaded(state: State, model: str) -> None:
    state.residents.pop(model, None)
    state.draining.discard(model)


def finished(state: State, job_id: int, now: float, *, well: bool) -> None:
    """Done, failed or cancelled, running or waiting; unknown ids are ignored."""
    for job in [job for job in state.queue if job.id == job_id]:
        state.queue.remove(job)
        if resident := state.residents.get(job.model):
            resident.last_used = now
    for model, resident in state.residents.items():
        if resident.running.pop(job_id, None) is not None:
            resident.last_used = now
            if well:
                state.faults.pop(model, None)


def ask_unload(state: State, model: str) -> None:
    """Let what runs there end, then unload it, pinned or not; requests that wait load it again."""
    state.wanted.discard(model)
    if model in state.residents:
        state.draining.add(model)


def set_ceiling(state: State, ceiling: int) -> None:
    """What the machine can give, in bytes. The budget is never more: when it shrinks below the leases, models give way,
    least recently used first, once nothing runs."""
    budget = min(state.limits.budget, ceiling)
    state.limits = msgspec.structs.replace(state.limits, budget=budget, ceiling=ceiling)


def _blame(state: State, model: str, reason: str, now: float) -> None:
    count = state.faults[model].count + 1 if model in state.faults else 1
    pause = 0.0 if count == 1 else min(LONGEST_BACK_OFF, 2.0 ** (count - 2))
    state.faults[model] = ModelFault(count, now + pause, reason)


def apply(state: State, effect: Effect, now: float) -> None:
    """What is true once an effect is under way."""
    match effect:
        case LoadModel():
            spec = state.specs[effect.model]
            state.residents[effect.model] = Resident(spec, "loading", effect.lease, last_used=now)
        case ResizeLease():
            state.residents[effect.model].lease = effect.lease
        case Unload():
            state.residents[effect.model].phase = "unloading"
        case Start():
            resident = state.residents[effect.job.model]
            state.queue.remove(effect.job)
            resident.running[effect.job.id] = effect.job
            resident.last_used = now
        case Refuse():
            state.queue.remove(effect.job)
        case WakeAt():
            pass
