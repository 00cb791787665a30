"""One tree of decisions, from the state and a `now` to what must happen."""

import math
from collections.abc import Iterator

from engines.service.pool.state import (
    Effect,
    Job,
    LoadModel,
    Refuse,
    Resident,
    ResizeLease,
    Spec,
    Start,
    State,
    Unload,
    WakeAt,
)
from engines.types.errors import DoesNotFit, LoadFailed, ServiceError

GB = 1e9
# How long a model stays idle when memory is scarce: an agent's next question comes within that, and loading it again
# would take more memory than it frees.
SCARCE_IDLE_SECONDS = 5.0


def decide(state: State, now: float) -> list[Effect]:
    """What must happen at `now` (monotonic seconds); empty when nothing must.

    Deterministic. At most one effect that changes the state is given, for the caller applies it before it asks again;
    with none due, the only effect may be `WakeAt`: the next moment at which the answer can change by itself.
    """
    for effect in (
        _refusal(state, now),
        _start(state, now),
        _grow(state, now),
        _drained(state),
        _shrink(state),
        _make_room(state, now),
        _idle(state, now),
    ):
        if effect is not None:
            return [effect]
    times = [time for time in _alarms(state) if time > now]
    return [WakeAt(min(times))] if times else []


def never_fits(state: State, model: str, kv_bytes: int = 0) -> DoesNotFit | None:
    """The error for a model with so much KV if not even unloading all that may be unloaded would make room."""
    spec = state.specs[model]
    need = spec.fixed_bytes + kv_bytes
    kept = sum(
        r.spec.fixed_bytes
        for name, r in state.residents.items()
        if name != model and r.spec.pinned and r.phase != "unloading" and name not in state.draining
    )
    if need <= state.limits.budget - kept:
        return None
    could = sum(r.lease for r in state.residents.values()) - kept
    return DoesNotFit(
        f"This needs {need / GB:.2f} GB; {max(0, _free(state)) / GB:.2f} GB are free, {could / GB:.2f} GB could be "
        f"unloaded. Use a smaller model, a shorter prompt or fewer tokens{_advice(state)}."
    )


def _advice(state: State) -> str:
    """What else there is to do."""
    limits = state.limits
    if limits.ceiling and limits.budget >= limits.ceiling:
        return f"; this machine can give {limits.ceiling / GB:.1f} GB to models at most"
    return ", or raise memory_budget_gb"


def fits_beside(state: State, model: str, kv_bytes: int = 0) -> bool:
    """Whether a modest job of a model could run soon: nobody waits for the model or for memory, and there is room."""
    if any(not job.modest and (job.model == model or _homeless(state, job)) for job in state.queue):
        return False
    resident = state.residents.get(model)
    if resident is None:
        return state.specs[model].fixed_bytes + kv_bytes <= _free(state)
    if resident.phase == "unloading" or model in state.draining:
        return False
    return kv_bytes <= resident.kv_room or kv_bytes - resident.kv_free <= _free(state)


def held_up(state: State) -> dict[str, int]:
    """For each loaded model, how many jobs wait that could gain by an end on it: its own, and those without memory."""
    homeless = sum(job.model not in state.residents for job in state.queue)
    return {model: homeless + sum(job.model == model for job in state.queue) for model in state.residents}


def left_alone(state: State, model: str, now: float) -> ServiceError | None:
    """The error for a model that failed and isn't to be tried again yet, or at all."""
    fault = state.faults.get(model)
    if fault is None or now >= fault.not_before or model in state.residents:
        return None
    if fault.refusal is not None:
        return fault.refusal
    again = fault.not_before - now
    message = f"The model failed {fault.count} times in a row and is left alone for {again:.0f} s: {fault.reason}"
    return LoadFailed(message, retry_after=max(1.0, again))


def _refusal(state: State, now: float) -> Effect | None:
    for job in state.queue:
        if (fault := left_alone(state, job.model, now)) is not None:
            return Refuse(job, fault)
        if job.modest and not fits_beside(state, job.model, job.kv_bytes):
            return Refuse(job, DoesNotFit("There is no room for this beside what others need. Try again later."))
        if (error := never_fits(state, job.model, job.kv_bytes)) is not None:
            return Refuse(job, error)
    return None


def _start(state: State, now: float) -> Effect | None:
    """First come, first served for each model; one that must make room takes nobody younger than who waits for it."""
    for job, resident in _startable(state, now):
        if job.kv_bytes <= resident.kv_free:
            return Start(job)
    return None


def _grow(state: State, now: float) -> Effect | None:
    """More KV room for a loaded model's next job, of memory that is free or that others don't use.

    Not while an older job waits for a model of its own: it comes first.
    """
    homeless = [job.age for job in state.queue if _homeless(state, job)]
    for job, resident in _startable(state, now):
        if any(age < job.age for age in homeless):
            continue
        deficit = job.kv_bytes - resident.kv_free
        if deficit <= _free(state):
            wish = min(resident.spec.kv_wish - resident.kv_room, _free(state) // 2)
            return ResizeLease(job.model, resident.lease + max(deficit, wish))
        if not job.modest and (effect := _tighten(state, deficit - _free(state), but=job.model)) is not None:
            return effect
    return None


def _startable(state: State, now: float) -> Iterator[tuple[Job, Resident]]:
    """Jobs that could start on a loaded model if there is KV room."""
    stopped = _giving_way(state, now)
    for job in _heads(state):
        resident = state.residents.get(job.model)
        if resident is None or resident.phase != "ready" or job.model in state.draining:
            continue
        if job.model in stopped and job.age >= stopped[job.model]:
            continue
        if len(resident.running) < state.limits.max_running:
            yield job, resident


def _tighten(state: State, missing: int, but: str = "") -> Effect | None:
    """Take KV room that nothing runs in (it holds stored blocks at most), if there is enough of it for what is missing.

    That costs some prefill again, and unloading a model far more.
    """
    roomy = sorted(
        (r for r in state.residents.values() if r.phase == "ready" and r.kv_free > 0 and r.spec.model != but),
        key=lambda r: (r.last_used, r.spec.model),
    )
    if missing <= 0 or sum(r.kv_free for r in roomy) < missing:
        return None
    return ResizeLease(roomy[0].spec.model, roomy[0].lease - min(missing, roomy[0].kv_free))


def _drained(state: State) -> Effect | None:
    for model in sorted(state.draining):
        resident = state.residents.get(model)
        if resident is not None and resident.phase == "ready" and not resident.running:
            return Unload(model)
    return None


def _shrink(state: State) -> Effect | None:
    """Take unused room, or unload what is idle, while the leases exceed a budget that was lowered."""
    if (effect := _tighten(state, -_coming(state))) is not None:
        return effect
    for resident in _by_age(state):
        if _coming(state) < 0 and not resident.running:
            return Unload(resident.spec.model)
    return None


def _make_room(state: State, now: float) -> Effect | None:
    """Load the model of the oldest job that has none, or unload what is idle for it."""
    promised = 0
    for job in _heads(state):
        if not _homeless(state, job):
            resident = state.residents[job.model]
            if resident.phase == "ready" and job.kv_bytes > resident.kv_room and not resident.running:
                return Unload(job.model)
            continue
        spec = state.specs[job.model]
        if (effect := _load_or_unload(state, spec, job.kv_bytes, promised)) is not None:
            return effect
        # Memory that comes free belongs to the oldest; what busy models hold is kept for it once it is out of patience.
        need = spec.fixed_bytes + job.kv_bytes
        if need + promised <= _coming(state) or _impatient(state, job, now):
            promised += need
    for model in sorted(state.wanted - state.residents.keys() - {job.model for job in state.queue}):
        fault = state.faults.get(model)
        if fault is not None and now < fault.not_before:
            continue
        if (effect := _load_or_unload(state, state.specs[model], 0, promised)) is not None:
            return effect
    return None


def _load_or_unload(state: State, spec: Spec, kv_bytes: int, promised: int) -> Effect | None:
    need = spec.fixed_bytes + kv_bytes
    missing = need + promised - _coming(state)
    if missing <= 0:
        if need > _free(state) or spec.model in state.residents:
            return None  # what is being unloaded will do
        return LoadModel(spec.model, _lease(state, spec, kv_bytes, promised))
    if (effect := _tighten(state, missing)) is not None:
        return effect
    # What could start has started: a model with a queue and nobody in work is one that must make room.
    idle = [r for r in _by_age(state) if not r.running]
    unused = sum(r.kv_free for r in state.residents.values() if r.phase == "ready" and r not in idle)
    chosen = _fewest(idle, missing - unused)
    return Unload(chosen[0].spec.model) if chosen else None


def _fewest(candidates: list[Resident], missing: int) -> list[Resident]:
    """Of the first candidates that together hold the missing bytes, those that are needed; none if all don't."""
    chosen: list[Resident] = []
    held = 0
    for resident in candidates:
        if held >= missing:
            break
        chosen.append(resident)
        held += resident.lease
    if held < missing:
        return []
    for resident in reversed(chosen[:-1]):
        if held - resident.lease >= missing:
            chosen.remove(resident)
            held -= resident.lease
    return chosen


def _giving_way(state: State, now: float) -> dict[str, tuple[float, int]]:
    """Busy models that must make room → the age of the job for which; they may still start older ones."""
    if _coming(state) < 0:
        return dict.fromkeys(_busy_holders(state, -_coming(state)), (-math.inf, 0))
    for job in _heads(state):
        if _homeless(state, job) and _impatient(state, job, now):
            need = state.specs[job.model].fixed_bytes + job.kv_bytes
            return dict.fromkeys(_busy_holders(state, need - _coming(state)), job.age)
    return {}


def _busy_holders(state: State, missing: int) -> list[str]:
    """The models, least recently used first, that must be unloaded for the missing bytes; idle ones go first."""
    models = []
    for resident in sorted(_by_age(state), key=lambda r: bool(r.running)):
        if missing <= 0:
            break
        models.append(resident.spec.model)
        missing -= resident.lease
    return models


def _idle(state: State, now: float) -> Effect | None:
    for resident, due in _idle_ends(state):
        if now >= due:
            return Unload(resident.spec.model)
    return None


def _idle_ends(state: State) -> list[tuple[Resident, float]]:
    """Models without running or waiting jobs, and when each has been idle for long enough."""
    if state.limits.idle_unload < 0:
        return []
    waited_for = {job.model for job in state.queue}
    idle = [r for r in _by_age(state) if not r.running and r.spec.model not in waited_for]
    patience = state.limits.idle_unload
    if state.memory_is_scarce:
        patience = min(patience, SCARCE_IDLE_SECONDS)
    return [(r, r.last_used + patience) for r in idle]


def _alarms(state: State) -> list[float]:
    """When patience, back-off (of a model that is to be loaded without a request) or idle time ends."""
    times = [job.arrived + state.limits.patience for job in _heads(state) if _homeless(state, job)]
    times += [state.faults[model].not_before for model in state.wanted & state.faults.keys()]
    return times + [due for _, due in _idle_ends(state)]


def _heads(state: State) -> list[Job]:
    """Every model's next job, oldest first."""
    heads: dict[str, Job] = {}
    for job in state.queue:
        heads.setdefault(job.model, job)
    return list(heads.values())


def _homeless(state: State, job: Job) -> bool:
    """Its model is to be loaded, now or when what is left of it is unloaded."""
    resident = state.residents.get(job.model)
    return resident is None or resident.phase == "unloading"


def _impatient(state: State, job: Job, now: float) -> bool:
    return now >= job.arrived + state.limits.patience


def _by_age(state: State) -> list[Resident]:
    """What may be unloaded at all, least recently used first."""
    ready = [r for r in state.residents.values() if r.phase == "ready" and not r.spec.pinned]
    return sorted(ready, key=lambda r: (r.last_used, r.spec.model))


def _free(state: State) -> int:
    return state.limits.budget - sum(r.lease for r in state.residents.values())


def _coming(state: State) -> int:
    """Free now, or soon by what is being unloaded."""
    return _free(state) + sum(r.lease for r in state.residents.values() if r.phase == "unloading")


def _lease(state: State, spec: Spec, kv_bytes: int, promised: int) -> int:
    """All that the request needs; beyond that the model's wish, but at most half of what would stay free."""
    spare = max(0, min(_free(state), _coming(state) - promised) - spec.fixed_bytes)
    return spec.fixed_bytes + max(kv_bytes, min(spec.kv_wish, spare // 2))
