"""Random histories over a simulated clock: what must hold after every event, whatever happened before."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from engines.service import pool
from engines.service.pool import (
    Effect,
    Job,
    LoadModel,
    PoolLimits,
    Refuse,
    ResizeLease,
    Spec,
    Start,
    State,
    Unload,
    WakeAt,
)
from engines.types.errors import DoesNotFit, LoadFailed, QueueFull
from tests.promises import promise

SIZES = {"small": 2, "middle": 4, "large": 8, "pinned": 3}
models = st.sampled_from(sorted(SIZES))
chance = st.integers(0, 10**6)


class History(RuleBasedStateMachine):
    @initialize(
        budget=st.integers(6, 24),
        idle=st.sampled_from([-1.0, 0.0, 7.3]),
        max_running=st.integers(1, 3),
        wish=st.integers(0, 6),
    )
    def begin(self, budget: int, idle: float, max_running: int, wish: int) -> None:
        self.now = 0.1
        self.wake: float | None = None
        self.ids = 0
        self.alive: set[int] = set()
        self.state = State(PoolLimits(budget, max_running, queue_limit=4, idle_unload=idle, patience=5.1))
        for model, size in SIZES.items():
            pool.register(self.state, Spec(model, size, wish, pinned=model == "pinned"))

    # -- what happens -----------------------------------------------------------------------------------------

    @rule(model=models, kv=st.integers(0, 5), late=st.sampled_from([0.0, 0.0, 0.7, 6.0]), modest=st.booleans())
    def a_request_arrives(self, model: str, kv: int, late: float, modest: bool) -> None:
        self.ids += 1
        waiting = sum(job.model == model for job in self.state.queue)
        try:
            pool.arrive(self.state, Job(self.ids, model, kv, self.now - late, modest=modest))
            assert waiting < 4
            self.alive.add(self.ids)
        except QueueFull as error:
            assert waiting == 4 and error.retry_after is not None
        self.settle()

    @rule(model=models, well=st.booleans())
    def a_load_ends(self, model: str, well: bool) -> None:
        if self.phase(model) == "loading":
            if well:
                pool.loaded(self.state, model, self.now)
            else:
                pool.load_failed(self.state, model, "no memory", self.now)
            self.settle()

    @rule(model=models)
    def an_unload_ends(self, model: str) -> None:
        if self.phase(model) == "unloading":
            pool.unloaded(self.state, model)
            self.settle()

    @rule(which=chance, well=st.booleans())
    def a_request_ends_or_its_client_leaves(self, which: int, well: bool) -> None:
        if self.alive:
            ended = sorted(self.alive)[which % len(self.alive)]
            self.alive.remove(ended)
            for _ in range(2):
                pool.finished(self.state, ended, self.now, well=well)
            self.settle()

    @rule(model=models)
    def a_runner_dies(self, model: str) -> None:
        if self.phase(model) in ("loading", "ready"):
            for job in pool.died(self.state, model, "signal 9", self.now):
                if job.attempts == 0:
                    pool.requeue(self.state, job)
                else:
                    self.alive.remove(job.id)
            self.settle()

    @rule(model=models)
    def somebody_asks_to_unload(self, model: str) -> None:
        pool.ask_unload(self.state, model)
        self.settle()

    @rule(model=models)
    def somebody_asks_to_load(self, model: str) -> None:
        self.state.wanted.add(model)
        self.settle()

    @rule(ceiling=st.integers(6, 24))
    def the_device_tells_what_it_can_give(self, ceiling: int) -> None:
        pool.set_ceiling(self.state, ceiling)
        self.settle()

    @rule(scarce=st.booleans())
    def the_system_reports_memory_pressure_or_none(self, scarce: bool) -> None:
        self.state.memory_is_scarce = scarce
        self.settle()

    @rule(seconds=st.sampled_from([0.25, 1.0, 5.1, 7.3, 61.0]))
    def time_passes(self, seconds: float) -> None:
        end = self.now + seconds
        while self.wake is not None and self.wake <= end:
            self.nothing_changes_before(self.wake)
            self.now = self.wake
            self.settle()
        self.nothing_changes_before(end)
        self.now = end
        self.settle()

    # -- what must hold ---------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Carry out all that is decided; fails when decisions never come to rest."""
        for _ in range(100):
            effects = pool.decide(self.state, self.now)
            assert repr(effects) == repr(pool.decide(self.state, self.now))
            if not effects or isinstance(effects[0], WakeAt):
                self.wake = effects[0].time if effects and isinstance(effects[0], WakeAt) else None
                assert self.wake is None or self.wake > self.now
                return
            for effect in effects:
                self.may(effect)
                pool.apply(self.state, effect, self.now)
        raise AssertionError("the pool never comes to rest")

    def may(self, effect: Effect) -> None:
        """Every effect is allowed where it is given."""
        it = self.state
        match effect:
            case LoadModel(model, lease):
                assert model not in it.residents
                assert self.leased() + lease <= it.limits.budget
                need = max((job.kv_bytes for job in it.queue if job.model == model), default=0)
                assert lease >= it.specs[model].fixed_bytes + (need if self.alone(model) else 0)
            case ResizeLease(model, lease):
                resident = it.residents[model]
                assert resident.phase == "ready"
                assert lease >= resident.spec.fixed_bytes + sum(job.kv_bytes for job in resident.running.values())
                assert lease < resident.lease or self.leased() - resident.lease + lease <= it.limits.budget
            case Unload(model):
                assert it.residents[model].phase == "ready" and not it.residents[model].running
                head = next((job for job in it.queue if job.model == model), None)
                cramped = head is not None and head.kv_bytes > it.residents[model].kv_room
                assert model != "pinned" or model in it.draining or cramped
                others = it.wanted or model in it.draining or self.leased() > it.limits.budget
                assert others or it.limits.idle_unload >= 0 or not all(job.modest for job in it.queue)
            case Start(job):
                resident = it.residents[job.model]
                assert resident.phase == "ready" and job.model not in it.draining
                assert job.kv_bytes <= resident.kv_free and len(resident.running) < it.limits.max_running
                assert job == min((j for j in it.queue if j.model == job.model), key=lambda j: (j.arrived, j.id))
            case Refuse(job, error):
                assert isinstance(error, DoesNotFit | LoadFailed)
                assert isinstance(error, LoadFailed) or self.never_fits(job) or job.modest
                assert isinstance(error, DoesNotFit) or self.now < it.faults[job.model].not_before
                self.alive.remove(job.id)

    def nothing_changes_before(self, time: float) -> None:
        """Until it wakes, the pool decides nothing by itself."""
        for part in (0.5, 0.999):
            effects = pool.decide(self.state, self.now + (time - self.now) * part)
            assert all(isinstance(effect, WakeAt) for effect in effects), effects

    def alone(self, model: str) -> bool:
        return sum(job.model == model for job in self.state.queue) == 1

    def never_fits(self, job: Job) -> bool:
        it = self.state
        others = [r for m, r in it.residents.items() if m != job.model and m not in it.draining and r.spec.pinned]
        kept = sum(r.spec.fixed_bytes for r in others if r.phase != "unloading")
        return SIZES[job.model] + job.kv_bytes > self.state.limits.budget - kept

    def leased(self) -> int:
        return sum(resident.lease for resident in self.state.residents.values())

    def phase(self, model: str) -> str:
        resident = self.state.residents.get(model)
        return resident.phase if resident is not None else "unloaded"

    @invariant()
    def every_request_is_in_one_place(self) -> None:
        running = [id for resident in self.state.residents.values() for id in resident.running]
        places = sorted([job.id for job in self.state.queue] + running)
        assert places == sorted(self.alive)

    @invariant()
    def leases_beyond_a_lowered_budget_are_of_models_in_work(self) -> None:
        leaving = sum(r.lease for r in self.state.residents.values() if r.phase == "unloading")
        if self.leased() - leaving > self.state.limits.budget:
            ready = [r for r in self.state.residents.values() if r.phase == "ready" and not r.spec.pinned]
            assert all(resident.running for resident in ready)
            assert sum(resident.kv_free for resident in ready) < self.leased() - leaving - self.state.limits.budget

    def teardown(self) -> None:
        """When nothing more arrives and runners do their work, every request ends within a few turns each."""
        for _ in range(6 * len(self.alive) + 10):
            if not self.alive:
                return
            self.now += 0.25
            for model, resident in list(self.state.residents.items()):
                if resident.phase == "loading":
                    pool.loaded(self.state, model, self.now)
                elif resident.phase == "unloading":
                    pool.unloaded(self.state, model)
                for id in list(resident.running):
                    pool.finished(self.state, id, self.now, well=True)
                    self.alive.remove(id)
            self.settle()
        raise AssertionError(f"starved: {self.state}")


History.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestAnyHistory = promise("core:load:leases", "core:wait:nobody-for-ever")(History.TestCase)
