"""What is counted, from the pool's state alone."""

from collections import Counter

import pytest

from engines.host.conditions import Conditions
from engines.models.catalog import Entry
from engines.models.checkpoint import Checkpoint
from engines.service import pool, status
from engines.service.pool.state import ModelFault, Resident, Spec, State
from engines.types.status import Metric
from tests.promises import promise

FAMILIES = {"mlx_local_running", "mlx_local_lease_bytes", "mlx_local_faults"}
LIMITS = pool.PoolLimits(budget=100, max_running=1, queue_limit=1, idle_unload=1.0, patience=1.0)


def gauges(state: State, *known: str) -> dict[tuple[str, str], float]:
    found: list[Metric] = list(status.metrics(state, Counter(), str.upper, known))
    return {(one.name, one.labels[0][1]): one.value for one in found if one.name in FAMILIES}


@promise("http:metrics:there")
def test_every_gauge_has_a_value_before_any_model_was_asked_for() -> None:
    assert gauges(State(LIMITS)) == {(name, ""): 0 for name in FAMILIES}


@promise("http:metrics:there")
def test_a_model_that_is_gone_keeps_its_gauges_at_nought() -> None:
    state = State(LIMITS, faults={"b": ModelFault(2, 0.0, "died")})
    found = gauges(state, "a", "b")
    assert found == {**{(name, model): 0 for name in FAMILIES for model in "AB"}, ("mlx_local_faults", "B"): 2}


def test_a_resident_models_gauges_are_its_own() -> None:
    state = State(LIMITS, residents={"a": Resident(Spec("a", 7, 0), "ready", lease=9)})
    found = gauges(state, "a")
    assert found["mlx_local_lease_bytes", "A"] == 9 and found["mlx_local_running", "A"] == 0


def test_of_the_machine_only_what_is_known_is_told() -> None:
    assert status.told(Conditions(2, 3, 17.0, False)) == {
        "memory_pressure": 2,
        "thermal_pressure": "trapping",
        "battery_percent": 17.0,
        "on_mains": False,
    }
    assert status.told(Conditions()) == {}


def test_the_machines_gauges_say_whether_background_work_waits() -> None:
    hot = {one.name: one.value for one in status.machine_metrics(Conditions(thermal_pressure=2), ("hot",))}
    assert hot == {"mlx_local_background_paused": 1, "mlx_local_thermal_pressure": 2}
    assert [one.value for one in status.machine_metrics(Conditions(), ())] == [0]


@promise("mac:reproducible")
@pytest.mark.parametrize(
    ("is_float32", "on_gpu", "reproducible"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_the_same_seed_is_promised_the_same_text_in_float32_on_a_processor_alone(
    is_float32: bool, on_gpu: bool, reproducible: bool
) -> None:
    checkpoint = Checkpoint("/m", "qwen3", "chat", 1, 1, 0, 64)
    entry = Entry("m", ("m",), checkpoint)
    assert status.model_status(entry, State(LIMITS), True, on_gpu, lambda _: is_float32).reproducible is reproducible
