"""What the runtime tells of itself: models, health, metrics. Pure, from the pool's state."""

from collections.abc import Callable, Collection, Iterator, Mapping

from engines.host.conditions import THERMAL_LEVELS, Conditions
from engines.models.catalog import Entry, NotInstalled
from engines.models.checkpoint import Checkpoint
from engines.service import pool
from engines.types.status import Health, Metric, ModelStatus


def model_status(
    item: Entry | NotInstalled,
    state: pool.State,
    own_sampling: bool,
    on_gpu: bool,
    is_float32: Callable[[Checkpoint], bool],
) -> ModelStatus:
    """A model of the catalog as it stands now; `own_sampling`: its own holds where a request doesn't say. `is_float32`
    is asked of a checkpoint's weights, not on a GPU."""
    if isinstance(item, NotInstalled):
        return ModelStatus((item.name, item.repository), item.capability, "unloaded", installed=False)
    resident = state.residents.get(item.key)
    fault = state.faults.get(item.key)
    return ModelStatus(
        names=item.names,
        capability=item.checkpoint.capability,
        phase=resident.phase if resident is not None else "failed" if fault is not None else "unloaded",
        installed=not item.checkpoint.missing,
        running=len(resident.running) if resident is not None else 0,
        waiting=sum(job.model == item.key for job in state.queue),
        lease_bytes=resident.lease if resident is not None else 0,
        detail=fault.reason if fault is not None else ", ".join(item.checkpoint.missing),
        default_sampling=dict(item.checkpoint.sampling.values) if own_sampling else {},
        reproducible=not on_gpu and is_float32(item.checkpoint),
    )


def health(state: pool.State, late: Mapping[str, str], name_of: Callable[[str], str]) -> Health:
    """`late` are the models whose runners have been silent for long, with what is missed; "" is the spare."""
    problems = [f"{name_of(key)}: {fault.reason}" for key, fault in state.faults.items()]
    problems += [
        f"{name_of(key) if key else 'the spare runner'}: no {missed} for more than 10 s" for key, missed in late.items()
    ]
    # One death is told and mended by the next request; a second in a row is a loop.
    return Health(not late and all(fault.count < 2 for fault in state.faults.values()), tuple(problems))


def metrics(
    state: pool.State, counts: Mapping[str, int], name_of: Callable[[str], str], known: Collection[str] = ()
) -> Iterator[Metric]:
    """Everything that is counted. `counts` has the outcomes of requests, `tokens` and `runner_deaths`; `known` are the
    models that were ever asked for, whose gauges stay when they aren't resident."""
    for outcome in ("done", "failed", "cancelled"):
        labels = (("outcome", outcome),)
        yield Metric("mlx_local_requests_total", "counter", "Requests that ended", counts[outcome], labels)
    yield Metric("mlx_local_tokens_total", "counter", "Tokens generated", counts["tokens"])
    yield Metric("mlx_local_prompt_tokens_total", "counter", "Tokens of prompts", counts["prompt_tokens"])
    help = "Tokens of prompts that were not computed again"
    yield Metric("mlx_local_cached_tokens_total", "counter", help, counts["cached_tokens"])
    yield Metric("mlx_local_runner_deaths_total", "counter", "Runners that died", counts["runner_deaths"])
    yield Metric("mlx_local_queue_length", "gauge", "Requests that wait", len(state.queue))
    running = {key: len(resident.running) for key, resident in state.residents.items()}
    lease = {key: resident.lease for key, resident in state.residents.items()}
    faults = {key: fault.count for key, fault in state.faults.items()}
    for name, help, values in (
        ("mlx_local_running", "Requests in work", running),
        ("mlx_local_lease_bytes", "Memory granted to a model", lease),
        ("mlx_local_faults", "Failures in a row of a model", faults),
    ):
        # A gauge that vanishes is no data to whoever watches it, where there is a nought; "" stands for no model yet.
        for key, value in {**values, **{key: values.get(key, 0) for key in known}}.items() or [("", 0)]:
            yield Metric(name, "gauge", help, value, (("model", name_of(key) if key else ""),))


def told(conditions: Conditions) -> dict[str, float | str | bool]:
    """What is known of the machine's conditions, by name."""
    known = conditions._asdict()
    if conditions.thermal_pressure is not None:
        known["thermal_pressure"] = THERMAL_LEVELS[conditions.thermal_pressure]
    return {name: value for name, value in known.items() if value is not None}


def machine_metrics(conditions: Conditions, pauses: Collection[str]) -> Iterator[Metric]:
    """Gauges of the machine: those of which the system says nothing are left out."""
    yield Metric("mlx_local_background_paused", "gauge", "Whether background work waits", int(bool(pauses)))
    for name, help, value in (
        ("mlx_local_memory_pressure", "Memory pressure: 1 normal, 2 warning, 4 critical", conditions.memory_pressure),
        ("mlx_local_thermal_pressure", "Thermal pressure: 0 nominal to 4 sleeping", conditions.thermal_pressure),
        ("mlx_local_battery_percent", "Charge of the battery", conditions.battery_percent),
    ):
        if value is not None:
            yield Metric(name, "gauge", help, value)
