import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import pool
from engines.errors import DoesNotFit, LoadFailed, QueueFull
from engines.pool import Job, Limits, Load, Refuse, Resident, Spec, Start, State, Unload, WakeAt

GB = 10**9


def state(budget: int = 12, **residents: Resident) -> State:
    limits = Limits(budget * GB, max_running=2, queue_limit=3, idle_unload=600.0, patience=30.0)
    made = State(limits, residents=residents)
    for name, size in {"chat": 8, "embed": 1, "big": 11, "huge": 40}.items():
        pool.register(made, Spec(name, size * GB, kv_wish=GB))
    return made


def ready(model: str, size: int, *, running: int = 0, last_used: float = 0.0) -> Resident:
    jobs = {-i: Job(-i, model, 0, 0.0) for i in range(1, running + 1)}
    return Resident(Spec(model, size * GB, GB), "ready", (size + 1) * GB, jobs, last_used)


def test_a_request_loads_its_model_and_then_starts() -> None:
    it = state()
    job = Job(1, "chat", GB // 10, 0.0)
    pool.arrive(it, job)
    (load,) = pool.decide(it, 0.0)
    assert load == Load("chat", 9 * GB)
    pool.apply(it, load, 0.0)
    assert not any(isinstance(e, Load | Start) for e in pool.decide(it, 0.0))
    pool.loaded(it, "chat", 1.0)
    assert pool.decide(it, 1.0) == [Start(job)]


def test_a_model_that_is_answering_is_not_unloaded_for_one_that_waits() -> None:
    it = state(chat=ready("chat", 8, running=1))
    pool.arrive(it, Job(1, "big", 0, 0.0))
    assert pool.decide(it, 0.0) == [WakeAt(30.0)]


def test_an_idle_model_makes_room_for_one_that_waits() -> None:
    it = state(chat=ready("chat", 8, last_used=5.0), embed=ready("embed", 1, last_used=1.0))
    pool.arrive(it, Job(1, "big", 0, 9.0))
    assert pool.decide(it, 9.0) == [Unload("embed")]


def test_what_can_never_fit_is_refused_with_figures_and_nothing_is_unloaded_for_it() -> None:
    it = state(chat=ready("chat", 8))
    pool.arrive(it, Job(1, "huge", 0, 0.0))
    (refusal,) = pool.decide(it, 0.0)
    assert isinstance(refusal, Refuse) and isinstance(refusal.error, DoesNotFit)
    assert all(figure in refusal.error.message for figure in ("40.00 GB", "3.00 GB", "9.00 GB"))


def test_a_busy_model_takes_nobody_younger_than_a_request_that_waited_too_long() -> None:
    it = state(chat=ready("chat", 8, running=1))
    pool.arrive(it, Job(1, "big", 0, 0.0))
    pool.arrive(it, Job(2, "chat", 0, 1.0))
    assert pool.decide(it, 29.0) == [Start(it.queue[1])]
    assert not any(isinstance(e, Start) for e in pool.decide(it, 31.0))
    pool.finished(it, -1, 32.0, well=True)
    assert pool.decide(it, 32.0) == [Unload("chat")]


def test_a_full_queue_says_when_to_come_back() -> None:
    it = state()
    for number in range(3):
        pool.arrive(it, Job(number, "chat", 0, 0.0))
    with pytest.raises(QueueFull) as caught:
        pool.arrive(it, Job(9, "chat", 0, 7.0))
    assert caught.value.retry_after == 7.0


def test_an_idle_model_is_unloaded_when_its_time_has_come_and_not_before() -> None:
    it = state(chat=ready("chat", 8, last_used=10.0))
    assert pool.decide(it, 10.0) == [WakeAt(610.0)]
    assert pool.decide(it, 610.0) == [Unload("chat")]


def test_a_model_that_keeps_failing_is_left_alone_for_longer_and_longer() -> None:
    it = state()
    pauses = []
    for _ in range(9):
        pool.load_failed(it, "chat", "no tokenizer", 0.0)
        pauses.append(it.faults["chat"].not_before)
    assert pauses == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    pool.arrive(it, Job(1, "chat", 0, 1.0))
    (refusal,) = pool.decide(it, 1.0)
    assert isinstance(refusal, Refuse) and isinstance(refusal.error, LoadFailed)
    assert refusal.error.retry_after == 59.0


def test_a_dead_runner_gives_its_requests_back() -> None:
    it = state(chat=ready("chat", 8))
    job = Job(1, "chat", 0, 0.0)
    pool.arrive(it, job)
    pool.apply(it, Start(job), 0.0)
    assert pool.died(it, "chat", "signal 9", 1.0) == [job]
    pool.requeue(it, job)
    assert (it.queue[0].attempts, pool.decide(it, 1.0)[0]) == (1, Load("chat", 9 * GB))


def check(it: State) -> None:
    assert sum(resident.lease for resident in it.residents.values()) <= it.limits.budget
    assert all(len(resident.running) <= it.limits.max_running for resident in it.residents.values())
    assert all(resident.phase != "unloading" or not resident.running for resident in it.residents.values())


def settle(it: State, now: float) -> int:
    """Carry everything out; how many requests ended by refusal. Fails when decisions never come to rest."""
    refused = 0
    for _ in range(1000):
        effects = pool.decide(it, now)
        assert repr(effects) == repr(pool.decide(it, now))
        if not effects or isinstance(effects[0], WakeAt):
            assert all(effect.time > now for effect in effects if isinstance(effect, WakeAt))
            return refused
        for effect in effects:
            refused += isinstance(effect, Refuse)
            pool.apply(it, effect, now)
        check(it)
    raise AssertionError("the pool never comes to rest")


@given(st.integers(0, 2**32), st.integers(5, 60))
def test_over_any_history_the_budget_is_kept_and_every_request_ends(seed: int, arrivals: int) -> None:
    chance = random.Random(seed)
    it = state()
    now, ended, taken = 0.0, 0, 0
    for id in range(1, arrivals + 1):
        now += chance.random() * 5
        try:
            pool.arrive(it, Job(id, chance.choice(["chat", "embed", "big", "huge"]), chance.randrange(GB // 4), now))
            taken += 1
        except QueueFull:
            pass
        ended += settle(it, now) + happen(it, chance, now)
    for _ in range(arrivals * 40):
        if ended == taken:
            break
        now += 5
        ended += settle(it, now) + happen(it, chance, now)
    assert ended == taken


def happen(it: State, chance: random.Random, now: float) -> int:
    """Something that runners do; how many requests ended."""
    ended = 0
    for model, resident in list(it.residents.items()):
        if resident.phase == "loading" and chance.random() < 0.7:
            pool.loaded(it, model, now)
        elif resident.phase == "unloading":
            pool.unloaded(it, model)
        elif resident.running and chance.random() < 0.5:
            pool.finished(it, chance.choice(sorted(resident.running)), now, well=True)
            ended += 1
        check(it)
    return ended
