"""Which model is loaded or unloaded, and which request starts or is refused: decided from plain state and a `now`.

Pure: no clock, socket, log or process. The runtime calls an event function when something happened, then `decide`,
carries every effect out and `apply`s it. Memory is counted in leases: the leases of all residents, those that are being
loaded or unloaded included, never exceed the budget.
"""

from dataclasses import dataclass, field
from typing import Literal

import msgspec

from engines.errors import DoesNotFit, LoadFailed, QueueFull, ServiceError

GB = 1e9
LONGEST_BACK_OFF = 60.0


class Limits(msgspec.Struct, frozen=True):
    """`budget` in bytes; `idle_unload` and `patience` in seconds (`idle_unload` 0 is at once, -1 never)."""

    budget: int
    max_running: int
    queue_limit: int
    idle_unload: float
    patience: float


class Spec(msgspec.Struct, frozen=True):
    """A model's needs in bytes: weights with work space, and the room for KV that it would like to have."""

    model: str
    fixed_bytes: int
    kv_wish: int
    pinned: bool = False


class Job(msgspec.Struct, frozen=True):
    """A request that waits or runs; `kv_bytes` is the room that it needs."""

    id: int
    model: str
    kv_bytes: int
    arrived: float
    attempts: int = 0


@dataclass
class Resident:
    spec: Spec
    phase: Literal["loading", "ready", "unloading"]
    lease: int
    running: dict[int, Job] = field(default_factory=dict)
    last_used: float = 0.0

    @property
    def kv_free(self) -> int:
        return self.lease - self.spec.fixed_bytes - sum(job.kv_bytes for job in self.running.values())


@dataclass
class Fault:
    """How often a model failed in a row, and until when it is left alone."""

    count: int
    not_before: float
    reason: str


@dataclass
class State:
    limits: Limits
    residents: dict[str, Resident] = field(default_factory=dict)
    queue: list[Job] = field(default_factory=list)
    faults: dict[str, Fault] = field(default_factory=dict)
    specs: dict[str, Spec] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)
    draining: set[str] = field(default_factory=set)


class Load(msgspec.Struct, frozen=True):
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


Effect = Load | Unload | Start | Refuse | WakeAt


# -- events ---------------------------------------------------------------------------------------------------------


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
    state.queue.append(job)


def requeue(state: State, job: Job) -> None:
    """A job whose runner died goes to the front again, once more."""
    state.queue.insert(0, msgspec.structs.replace(job, attempts=job.attempts + 1))


def loaded(state: State, model: str, now: float) -> None:
    if resident := state.residents.get(model):
        resident.phase = "ready"
        resident.last_used = now
    state.wanted.discard(model)


def load_failed(state: State, model: str, reason: str, now: float) -> None:
    state.residents.pop(model, None)
    state.wanted.discard(model)
    _blame(state, model, reason, now)


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
    state.queue[:] = [job for job in state.queue if job.id != job_id]
    for model, resident in state.residents.items():
        if resident.running.pop(job_id, None) is not None:
            resident.last_used = now
            if well:
                state.faults.pop(model, None)


def ask_unload(state: State, model: str) -> None:
    if model in state.residents:
        state.draining.add(model)


def _blame(state: State, model: str, reason: str, now: float) -> None:
    count = state.faults[model].count + 1 if model in state.faults else 1
    pause = 0.0 if count == 1 else min(LONGEST_BACK_OFF, 2.0 ** (count - 2))
    state.faults[model] = Fault(count, now + pause, reason)


# -- decisions ------------------------------------------------------------------------------------------------------


def apply(state: State, effect: Effect, now: float) -> None:
    """What is true once an effect is under way."""
    match effect:
        case Load():
            spec = state.specs[effect.model]
            state.residents[effect.model] = Resident(spec, "loading", effect.lease, last_used=now)
        case Unload():
            state.residents[effect.model].phase = "unloading"
        case Start():
            state.queue.remove(effect.job)
            state.residents[effect.job.model].running[effect.job.id] = effect.job
        case Refuse():
            state.queue.remove(effect.job)
        case WakeAt():
            pass


def decide(state: State, now: float) -> list[Effect]:
    """What must happen at `now` (monotonic seconds), in this order; empty when nothing must.

    Deterministic. The first change of state alone is given, for the caller applies it before it asks again; with no
    change due, the only effect may be `WakeAt`: the next moment at which the answer can change by itself.
    """
    for effect in (
        _refusal(state, now),
        _start(state, now),
        _drained(state),
        _make_room(state, now),
        _idle(state, now),
    ):
        if effect is not None:
            return [effect]
    times = [time for time in _alarms(state) if time > now]
    return [WakeAt(min(times))] if times else []


def _refusal(state: State, now: float) -> Effect | None:
    for job in state.queue:
        fault = state.faults.get(job.model)
        if fault is not None and now < fault.not_before and job.model not in state.residents:
            again = fault.not_before - now
            message = (
                f"The model failed {fault.count} times in a row and is left alone for {again:.0f} s: {fault.reason}"
            )
            return Refuse(job, LoadFailed(message, retry_after=max(1.0, again)))
        spec = state.specs[job.model]
        need = spec.fixed_bytes + job.kv_bytes
        others = [r for model, r in state.residents.items() if model != job.model]
        held = sum(r.lease for r in others if r.spec.pinned and r.phase != "unloading")
        if need > state.limits.budget - held:
            free = state.limits.budget - sum(r.lease for r in state.residents.values())
            could = sum(r.lease for r in others if not r.spec.pinned)
            message = (
                f"This needs {need / GB:.2f} GB; {free / GB:.2f} GB are free, {could / GB:.2f} GB could be unloaded. "
                "Use a smaller model, a shorter prompt or fewer tokens, or raise memory_budget_gb."
            )
            return Refuse(job, DoesNotFit(message))
    return None


def _start(state: State, now: float) -> Effect | None:
    """First come, first served for each model; one that must make room takes nobody younger than who waits for it."""
    stopped = _giving_way(state, now)
    seen: set[str] = set()
    for job in state.queue:
        resident = state.residents.get(job.model)
        if job.model in seen or resident is None:
            continue
        seen.add(job.model)
        cutoff = stopped.get(job.model)
        if resident.phase != "ready" or job.model in state.draining or (cutoff is not None and job.arrived >= cutoff):
            continue
        if len(resident.running) < state.limits.max_running and job.kv_bytes <= resident.kv_free:
            return Start(job)
    return None


def _drained(state: State) -> Effect | None:
    for model in sorted(state.draining):
        resident = state.residents.get(model)
        if resident is not None and resident.phase == "ready" and not resident.running:
            return Unload(model)
    return None


def _make_room(state: State, now: float) -> Effect | None:
    """Load the model of the oldest job that has none, or unload what is idle for it."""
    heads: dict[str, Job] = {}
    for job in sorted(state.queue, key=lambda job: (job.arrived, job.id)):
        heads.setdefault(job.model, job)
    promised = 0
    for job in heads.values():
        resident = state.residents.get(job.model)
        if resident is not None:
            cramped = job.kv_bytes > resident.lease - resident.spec.fixed_bytes
            if resident.phase == "ready" and cramped and not resident.running:
                return Unload(job.model)
            continue
        spec = state.specs[job.model]
        if (effect := _load_or_unload(state, spec, job.kv_bytes, promised)) is not None:
            return effect
        # Nobody younger may take the memory that this one waits for.
        promised += spec.fixed_bytes + job.kv_bytes
    for model in sorted(state.wanted - state.residents.keys()):
        if (effect := _load_or_unload(state, state.specs[model], 0, promised)) is not None:
            return effect
    return None


def _load_or_unload(state: State, spec: Spec, kv_bytes: int, promised: int) -> Effect | None:
    need = spec.fixed_bytes + kv_bytes
    missing = need + promised - _coming(state)
    if need <= _free(state) and missing <= 0:
        return Load(spec.model, _lease(state, spec, kv_bytes, promised))
    # What could start has started: a model with a queue and nobody in work is one that must make room.
    idle = [r for r in _by_age(state) if not r.running]
    if missing <= 0 or missing > sum(r.lease for r in idle):
        return None
    return Unload(idle[0].spec.model)


def _giving_way(state: State, now: float) -> dict[str, float]:
    """Busy models that must make room for a job that waited too long → that job's arrival."""
    for job in sorted(state.queue, key=lambda job: (job.arrived, job.id)):
        if now - job.arrived < state.limits.patience:
            break
        resident = state.residents.get(job.model)
        if resident is not None and job.kv_bytes <= resident.lease - resident.spec.fixed_bytes:
            continue
        missing = state.specs[job.model].fixed_bytes + job.kv_bytes - _coming(state)
        chosen: dict[str, float] = {}
        for other in _by_age(state):
            if missing <= 0:
                break
            chosen[other.spec.model] = job.arrived
            missing -= other.lease
        return chosen
    return {}


def _idle(state: State, now: float) -> Effect | None:
    if state.limits.idle_unload < 0:
        return None
    for resident in _by_age(state):
        if _is_idle(state, resident) and now >= resident.last_used + state.limits.idle_unload:
            return Unload(resident.spec.model)
    return None


def _alarms(state: State) -> list[float]:
    times = [job.arrived + state.limits.patience for job in state.queue]
    times += [fault.not_before for model, fault in state.faults.items() if model not in state.residents]
    if state.limits.idle_unload >= 0:
        times += [r.last_used + state.limits.idle_unload for r in _by_age(state) if _is_idle(state, r)]
    return times


def _by_age(state: State) -> list[Resident]:
    """What may be unloaded at all, least recently used first."""
    ready = [r for r in state.residents.values() if r.phase == "ready" and not r.spec.pinned]
    return sorted(ready, key=lambda r: (r.last_used, r.spec.model))


def _is_idle(state: State, resident: Resident) -> bool:
    return not resident.running and all(job.model != resident.spec.model for job in state.queue)


def _free(state: State) -> int:
    return state.limits.budget - sum(r.lease for r in state.residents.values())


def _coming(state: State) -> int:
    """Free now, or soon by what is being unloaded."""
    return _free(state) + sum(r.lease for r in state.residents.values() if r.phase == "unloading")


def _lease(state: State, spec: Spec, kv_bytes: int, promised: int) -> int:
    """All that the request needs; beyond that the model's wish, but at most half of what would stay free."""
    spare = max(0, min(_free(state), _coming(state) - promised) - spec.fixed_bytes)
    return spec.fixed_bytes + max(kv_bytes, min(spec.kv_wish, spare // 2))
