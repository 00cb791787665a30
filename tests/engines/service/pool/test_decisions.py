import pytest
from msgspec import structs

from engines.service import pool
from engines.service.pool import (
    Job,
    LoadModel,
    PoolLimits,
    Refuse,
    Resident,
    ResizeLease,
    Spec,
    Start,
    State,
    Unload,
    WakeAt,
)
from engines.types.errors import DoesNotFit, LoadFailed, QueueFull
from tests.promises import promise

GB = 10**9


def state(budget: int = 12, **residents: Resident) -> State:
    limits = PoolLimits(budget * GB, max_running=2, queue_limit=3, idle_unload=600.0, patience=30.0)
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
    assert load == LoadModel("chat", 9 * GB)
    pool.apply(it, load, 0.0)
    assert not any(isinstance(e, LoadModel | Start) for e in pool.decide(it, 0.0))
    pool.loaded(it, "chat", 1.0)
    assert pool.decide(it, 1.0) == [Start(job)]


@promise("core:unload:not-under-requests")
def test_a_model_that_is_answering_is_not_unloaded_for_one_that_waits() -> None:
    it = state(chat=ready("chat", 8, running=1))
    pool.arrive(it, Job(1, "big", 0, 0.0))
    assert pool.decide(it, 0.0) == [WakeAt(30.0)]


def test_an_idle_model_makes_room_for_one_that_waits() -> None:
    it = state(chat=ready("chat", 8, last_used=5.0), embed=ready("embed", 1, last_used=1.0))
    pool.arrive(it, Job(1, "big", 0, 9.0))
    assert pool.decide(it, 9.0) == [Unload("embed")]


@promise("core:load:figures")
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


@promise("core:runner:back-off")
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
    assert (it.queue[0].attempts, pool.decide(it, 1.0)[0]) == (1, LoadModel("chat", 9 * GB))


def carry_out(it: State, now: float) -> list[pool.Effect]:
    """Everything that is decided at `now`, in order."""
    done: list[pool.Effect] = []
    while (effects := pool.decide(it, now)) and not isinstance(effects[0], WakeAt):
        for effect in effects:
            pool.apply(it, effect, now)
        done += effects
        assert len(done) < 50
    return done


def test_only_as_many_models_are_unloaded_as_are_needed() -> None:
    it = state(embed=ready("embed", 1, last_used=1.0), chat=ready("chat", 8, last_used=2.0))
    pool.register(it, Spec("other", 9 * GB, 0))
    pool.arrive(it, Job(1, "other", 0, 3.0))
    assert carry_out(it, 3.0) == [Unload("chat")]
    pool.unloaded(it, "chat")
    assert carry_out(it, 4.0) == [LoadModel("other", 9 * GB)]


def test_a_pinned_model_stays_but_goes_when_asked_to() -> None:
    pinned = Resident(Spec("chat", 8 * GB, GB, pinned=True), "ready", 9 * GB, last_used=0.0)
    it = state(chat=pinned)
    assert pool.decide(it, 9999.0) == []
    pool.arrive(it, Job(1, "big", 0, 9999.0))
    (refusal,) = carry_out(it, 9999.0)
    assert isinstance(refusal, Refuse) and isinstance(refusal.error, DoesNotFit)
    pool.ask_unload(it, "chat")
    assert pool.decide(it, 9999.0) == [Unload("chat")]


def test_a_model_that_was_asked_to_unload_ends_its_work_and_is_loaded_again_for_who_waits() -> None:
    it = state(chat=ready("chat", 8, running=1))
    pool.ask_unload(it, "chat")
    pool.arrive(it, Job(1, "chat", 0, 1.0))
    assert carry_out(it, 1.0) == []
    pool.finished(it, -1, 2.0, well=True)
    assert carry_out(it, 2.0) == [Unload("chat")]
    pool.unloaded(it, "chat")
    assert carry_out(it, 3.0) == [LoadModel("chat", 9 * GB)]
    pool.loaded(it, "chat", 4.0)
    assert carry_out(it, 4.0) == [Start(Job(1, "chat", 0, 1.0))]


def test_a_failed_load_forgets_that_it_was_asked_to_unload() -> None:
    it = state()
    pool.arrive(it, Job(1, "chat", 0, 0.0))
    carry_out(it, 0.0)
    pool.ask_unload(it, "chat")
    pool.load_failed(it, "chat", "no memory", 1.0)
    carry_out(it, 1.0)
    pool.loaded(it, "chat", 2.0)
    assert carry_out(it, 2.0) == [Start(Job(1, "chat", 0, 0.0))]


def test_a_request_too_long_for_the_lease_makes_it_grow_while_others_run() -> None:
    it = state(chat=ready("chat", 8, running=1))
    pool.arrive(it, Job(1, "chat", 3 * GB, 1.0))
    assert carry_out(it, 2.0) == [ResizeLease("chat", 11 * GB), Start(Job(1, "chat", 3 * GB, 1.0))]


def test_a_request_too_long_for_the_memory_waits_for_the_others_and_younger_ones_wait_behind_it() -> None:
    it = state(chat=ready("chat", 8, running=1), embed=ready("embed", 1, running=1))
    it.residents["chat"].running[-1] = Job(-1, "chat", GB, 0.0)
    pool.arrive(it, Job(1, "chat", 3 * GB, 1.0))
    pool.arrive(it, Job(2, "chat", 0, 2.0))
    assert carry_out(it, 2.0) == []
    pool.finished(it, -1, 3.0, well=True)
    assert carry_out(it, 3.0) == [
        ResizeLease("embed", GB),
        ResizeLease("chat", 11 * GB),
        Start(Job(1, "chat", 3 * GB, 1.0)),
        Start(Job(2, "chat", 0, 2.0)),
    ]


def test_room_that_nothing_runs_in_is_taken_before_a_model_is_unloaded() -> None:
    it = state(chat=ready("chat", 8, running=1), embed=ready("embed", 1, last_used=5.0))
    pool.register(it, Spec("other", 3 * GB, kv_wish=GB))
    pool.arrive(it, Job(1, "other", 0, 6.0))
    assert carry_out(it, 6.0) == [ResizeLease("chat", 8 * GB), ResizeLease("embed", GB), LoadModel("other", 3 * GB)]


@promise("core:request:order")
def test_requests_start_in_the_order_in_which_they_arrived_even_when_prepared_in_another() -> None:
    it = state(chat=ready("chat", 8))
    pool.arrive(it, Job(2, "chat", 0, 5.0))
    pool.arrive(it, Job(1, "chat", 0, 4.0))
    assert [e.job.id for e in carry_out(it, 6.0) if isinstance(e, Start)] == [1, 2]


def test_a_load_longer_than_patience_is_of_use_to_the_request_that_asked_for_it() -> None:
    it = state()
    pool.arrive(it, Job(1, "chat", 0, 0.0))
    pool.arrive(it, Job(2, "big", 0, 0.0))
    assert carry_out(it, 0.0) == [LoadModel("chat", 9 * GB)]
    pool.loaded(it, "chat", 40.0)
    assert carry_out(it, 40.0) == [Start(Job(1, "chat", 0, 0.0))]


@promise("core:wait:nobody-for-ever")
def test_two_models_that_never_fit_together_take_turns_under_steady_load() -> None:
    it = state()
    arrived: dict[int, float] = {}
    waits: list[float] = []
    for second in range(2000):
        now = float(second)
        for model, resident in list(it.residents.items()):
            if resident.phase == "loading":
                pool.loaded(it, model, now)
            elif resident.phase == "unloading":
                pool.unloaded(it, model)
            # One leaves each second, so that another always runs.
            for id in sorted(resident.running)[:1]:
                pool.finished(it, id, now, well=True)
        for place, model in enumerate(("chat", "big")):
            if sum(job.model == model for job in it.queue) < 3:
                job = Job(2 * second + place, model, 0, now)
                arrived[job.id] = now
                pool.arrive(it, job)
        waits += [now - arrived.pop(e.job.id) for e in carry_out(it, now) if isinstance(e, Start)]
    assert len(waits) > 1000
    assert max(waits + [2000.0 - since for since in arrived.values()]) < 3 * it.limits.patience


def test_memory_that_is_free_is_used_while_somebody_waits_for_more() -> None:
    it = state(chat=ready("chat", 8, running=1))
    pool.arrive(it, Job(1, "big", 0, 0.0))
    pool.arrive(it, Job(2, "embed", 0, 1.0))
    assert carry_out(it, 1.0) == [LoadModel("embed", 2 * GB)]


def test_memory_is_kept_for_who_waited_too_long() -> None:
    it = state(chat=ready("chat", 8, running=1))
    pool.arrive(it, Job(1, "big", 0, 0.0))
    pool.arrive(it, Job(2, "embed", 0, 31.0))
    assert carry_out(it, 31.0) == []


@promise("core:unload:idle")
def test_idle_time_counts_from_the_end_of_the_last_request() -> None:
    it = state(chat=ready("chat", 8, running=1, last_used=10.0))
    assert pool.decide(it, 9999.0) == []
    pool.finished(it, -1, 9999.0, well=False)
    assert pool.decide(it, 9999.0) == [WakeAt(10599.0)]


@pytest.mark.parametrize(("idle_unload", "expected"), [(0.0, [Unload("chat")]), (-1.0, [])])
def test_an_idle_model_goes_at_once_or_never_when_so_configured(idle_unload: float, expected: list[Unload]) -> None:
    it = State(PoolLimits(12 * GB, 2, 3, idle_unload, 30.0), residents={"chat": ready("chat", 8)})
    assert pool.decide(it, 0.0) == expected


def test_a_request_that_ends_well_clears_the_faults_of_its_model_and_others_do_not() -> None:
    it = state(chat=ready("chat", 8, running=2))
    it.faults["chat"] = pool.ModelFault(3, 0.0, "signal 9")
    pool.finished(it, -1, 1.0, well=False)
    assert it.faults["chat"].count == 3
    pool.finished(it, -2, 1.0, well=True)
    assert not it.faults


def test_a_model_that_is_wanted_is_loaded_without_a_request_but_not_during_its_back_off() -> None:
    it = state()
    it.wanted.add("chat")
    it.faults["chat"] = pool.ModelFault(2, 5.0, "signal 9")
    assert pool.decide(it, 4.0) == [WakeAt(5.0)]
    assert carry_out(it, 5.0) == [LoadModel("chat", 9 * GB)]
    pool.loaded(it, "chat", 6.0)
    assert not it.wanted


def test_a_model_that_is_wanted_and_never_fits_is_told_and_not_loaded() -> None:
    it = state()
    it.wanted.add("huge")
    assert pool.decide(it, 0.0) == []
    assert isinstance(pool.never_fits(it, "huge"), DoesNotFit)
    assert pool.never_fits(it, "chat") is None


@pytest.mark.parametrize(
    ("ceiling", "advice"), [(0, "raise memory_budget_gb"), (200 * GB, "raise memory_budget_gb"), (9 * GB, "at most")]
)
def test_a_refusal_never_advises_what_has_no_effect(ceiling: int, advice: str) -> None:
    it = state()
    if ceiling:
        pool.set_ceiling(it, ceiling)
    error = pool.never_fits(it, "huge")
    assert error is not None
    assert advice in error.message
    assert ("memory_budget_gb" in error.message) == (ceiling != 9 * GB)


def test_a_lower_budget_unloads_what_is_idle_and_lets_work_end() -> None:
    it = state(chat=ready("chat", 8, running=1), embed=ready("embed", 1, last_used=5.0))
    pool.set_ceiling(it, 8 * GB)
    pool.arrive(it, Job(1, "chat", 0, 6.0))
    assert carry_out(it, 6.0) == [Unload("embed"), ResizeLease("chat", 8 * GB), Start(Job(1, "chat", 0, 6.0))]


def test_patience_ends_exactly_when_the_pool_said_that_it_would_wake() -> None:
    it = state(chat=ready("chat", 8, running=1))
    pool.arrive(it, Job(1, "big", 0, 2.3))
    (wake,) = pool.decide(it, 3.0)
    assert isinstance(wake, WakeAt)
    pool.arrive(it, Job(2, "chat", 0, wake.time))
    assert carry_out(it, wake.time) == []


def test_no_more_models_give_way_than_are_needed_and_idle_ones_first() -> None:
    models = {"a": ready("a", 8, running=1), "b": ready("b", 8, last_used=2.0), "c": ready("c", 8, running=1)}
    models["c"].last_used = 1.0
    it = state(30, **models)
    for model, size in {"a": 8, "b": 8, "c": 8, "twice": 20}.items():
        pool.register(it, Spec(model, size * GB, GB))
    pool.arrive(it, Job(1, "twice", 0, 3.0))
    for id, model in enumerate("abc", start=2):
        pool.arrive(it, Job(id, model, 0, 40.0))
    assert carry_out(it, 40.0) == [Start(Job(4, "c", 0, 40.0))]


def test_a_model_that_somebody_waits_for_is_not_idle() -> None:
    it = state(chat=ready("chat", 8, running=1), embed=ready("embed", 1))
    pool.arrive(it, Job(1, "big", 0, 0.0))
    pool.arrive(it, Job(2, "embed", 0, 700.0))
    assert carry_out(it, 700.0) == []


def test_a_request_whose_runner_died_goes_before_the_younger_ones() -> None:
    it = state(chat=ready("chat", 8))
    first, second = Job(1, "chat", 0, 0.0), Job(2, "chat", 0, 0.0)
    for job in (first, second):
        pool.arrive(it, job)
    carry_out(it, 0.0)
    pool.arrive(it, Job(3, "chat", 0, 1.0))
    for job in pool.died(it, "chat", "signal 9", 2.0):
        pool.requeue(it, job)
    assert [(job.id, job.attempts) for job in it.queue] == [(1, 1), (2, 1), (3, 0)]


def test_a_late_word_that_a_model_is_loaded_changes_nothing_once_it_is_being_unloaded() -> None:
    it = state(chat=ready("chat", 8))
    pool.apply(it, Unload("chat"), 0.0)
    pool.loaded(it, "chat", 1.0)
    assert it.residents["chat"].phase == "unloading"


def test_a_model_that_is_left_alone_says_so_before_anything_is_done_for_a_request() -> None:
    it = state()
    pool.register(it, Spec("chat", 8 * GB, kv_wish=GB))
    for _ in range(3):
        pool.load_failed(it, "chat", "no memory", 0.0)
    error = pool.left_alone(it, "chat", 0.5)
    assert isinstance(error, LoadFailed) and error.retry_after and "no memory" in error.message
    assert pool.left_alone(it, "chat", 60.0) is None
    assert pool.left_alone(it, "embed", 0.5) is None


@promise("audio:speech:heard")
def test_nothing_makes_room_for_a_modest_request() -> None:
    """Memory for it, unused room of others, a place before anybody: it has none of these, and is refused at once."""
    modest = Job(9, "embed", GB // 2, 5.0, modest=True)
    full = state(chat=ready("chat", 11))
    assert not pool.fits_beside(full, "embed", modest.kv_bytes)
    pool.arrive(full, modest)
    (refusal,) = pool.decide(full, 5.0)
    assert isinstance(refusal, Refuse) and refusal.job == modest
    waited_for = state(12)
    pool.arrive(waited_for, Job(1, "chat", 0, 0.0))
    assert not pool.fits_beside(waited_for, "embed")
    own = state(12, embed=ready("embed", 1, running=1))
    pool.arrive(own, Job(1, "embed", 2 * GB, 0.0))
    own.residents["embed"].running[-1] = Job(-1, "embed", GB, 0.0)
    assert not pool.fits_beside(own, "embed")


@promise("audio:speech:heard")
def test_a_modest_request_is_done_beside_the_others_where_there_is_room() -> None:
    it = state(chat=ready("chat", 8))
    job = Job(9, "embed", GB // 2, 5.0, modest=True)
    assert pool.fits_beside(it, "embed", job.kv_bytes)
    pool.arrive(it, job)
    effects = carry_out(it, 5.0)
    assert isinstance(effects[0], LoadModel) and not any(isinstance(one, Unload | Refuse) for one in effects)
    pool.loaded(it, "embed", 6.0)
    assert pool.decide(it, 6.0) == [Start(job)]


def test_a_modest_request_gives_way_to_one_that_comes_while_it_waits() -> None:
    it = state(chat=ready("chat", 8))
    modest = Job(9, "embed", 0, 5.0, modest=True)
    pool.arrive(it, modest)
    pool.apply(it, pool.decide(it, 5.0)[0], 5.0)  # it is being loaded
    pool.arrive(it, Job(10, "big", 0, 6.0))
    (refusal,) = pool.decide(it, 6.0)
    assert isinstance(refusal, Refuse) and refusal.job == modest


@promise("mac:memory:idle-models-go")
def test_idle_models_go_within_seconds_when_memory_is_scarce_and_busy_and_pinned_ones_stay() -> None:
    residents = {name: ready(name, 2) for name in ("idle", "busy", "pinned")}
    residents["busy"].running[1] = Job(1, "busy", 0, 0.0)
    residents["pinned"].spec = structs.replace(residents["pinned"].spec, pinned=True)
    it = State(PoolLimits(12 * GB, 2, 3, 600.0, 30.0), residents=residents)
    assert pool.decide(it, 4.0) == [WakeAt(600.0)]
    it.memory_is_scarce = True
    assert pool.decide(it, 4.0) == [WakeAt(5.0)]
    assert pool.decide(it, 5.0) == [Unload("idle")]


def test_a_model_that_is_never_to_be_unloaded_stays_when_memory_is_scarce() -> None:
    it = State(PoolLimits(12 * GB, 2, 3, -1.0, 30.0), residents={"chat": ready("chat", 8)}, memory_is_scarce=True)
    assert pool.decide(it, 1e6) == []


def test_a_background_request_starts_after_interactive_ones_that_came_a_little_later_and_not_after_all() -> None:
    it = state(chat=ready("chat", 8, running=2))
    late = Job(1, "chat", 0, 0.0, priority="background")
    soon, later = Job(2, "chat", 0, 5.0), Job(3, "chat", 0, 11.0)
    for job in (late, soon, later):
        pool.arrive(it, job)
    assert [job.id for job in it.queue] == [2, 1, 3]
