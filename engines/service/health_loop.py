"""Time passes: runners that hang or that nobody uses are ended, the pool's wishes come due, a Mac is kept awake."""

import asyncio
import logging

from engines.host.awake import KeepAwake
from engines.host.clock import AwakeClock
from engines.ipc.liveness import Verdict, verdict, worst
from engines.ipc.tasks import RecurringFault, Tasks
from engines.service.admission import Admission
from engines.service.background import Background
from engines.service.runner_handle import RunnerHandle
from engines.service.supervisor import RETRY_SECONDS, Supervisor
from engines.types.errors import Stalled

TICK_SECONDS = 0.25
OPEN_IDLE_SECONDS = 30.0

log = logging.getLogger("runtime")


class HealthLoop:
    """Moves the `clock`, of which all others read."""

    def __init__(
        self,
        clock: AwakeClock,
        admission: Admission,
        supervisor: Supervisor,
        awake: KeepAwake,
        background: Background,
    ) -> None:
        self._clock = clock
        self._admission = admission
        self._supervisor = supervisor
        self._awake = awake
        self._background = background
        self._tasks = Tasks()
        self._faults = RecurringFault("a look after the runners")

    def begin(self) -> None:
        self._tasks.spawn(self._ticks())

    async def close(self) -> None:
        await self._tasks.close()
        await asyncio.to_thread(self._awake.release)

    def late(self) -> dict[str, str]:
        """The models whose runners have been silent for long, by their keys (the spare's is ""), and what is missed."""
        late = [worker for worker in self._supervisor.runners.everybody if self._verdict(worker) != "well"]
        return {worker.key: "step" if self._is_busy(worker) else "answer" for worker in late}

    async def _ticks(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            with self._faults.told():
                await self._tick()

    async def _tick(self) -> None:
        now = self._clock.tick()
        for worker in self._supervisor.runners.everybody:
            self._look_after(worker, now)
        self._supervisor.runners.prepare_spare()
        await asyncio.to_thread(self._awake.wanted, self._admission.busy, now)
        self._supervisor.end_unread()
        self._supervisor.settle()
        await self._look_at_conditions()

    async def _look_at_conditions(self) -> None:
        self._background.wake()
        if self._background.is_due:
            self._background.take(await asyncio.to_thread(self._background.read))
            self._supervisor.state.memory_is_scarce = self._background.advice.unload_idle

    def _look_after(self, worker: RunnerHandle, now: float) -> None:
        if self._verdict(worker) == "stuck":
            self._end_hung(worker)
        elif worker.key and not self._is_used(worker) and now - worker.last_used > OPEN_IDLE_SECONDS:
            worker.kill()
        elif self._supervisor.phase(worker.key) != "loading":
            worker.ping(now)

    def _verdict(self, worker: RunnerHandle) -> Verdict:
        loading = self._supervisor.phase(worker.key) == "loading"
        facts = worker.facts(self._is_busy(worker), loading, self._asked_at(worker))
        return worst([verdict(one, self._clock.now) for one in facts])

    def _is_busy(self, worker: RunnerHandle) -> bool:
        resident = self._supervisor.state.residents.get(worker.key)
        return resident is not None and bool(resident.running)

    def _asked_at(self, worker: RunnerHandle) -> float | None:
        """Since when its helper owes an answer: its tokenizer, or what somebody asked."""
        if worker.key and not worker.opened.done():
            return 0.0
        tickets = self._admission.tickets.values()
        return min((one.asked_at for one in tickets if one.worker is worker and one.asking), default=None)

    def _is_used(self, worker: RunnerHandle) -> bool:
        return worker.key in self._supervisor.state.residents or any(
            ticket.entry.key == worker.key for ticket in self._admission.tickets.values()
        )

    def _end_hung(self, worker: RunnerHandle) -> None:
        log.error("the runner of %s hangs and is ended", self._supervisor.main_name(worker.key) or "no model")
        for ticket in self._admission.tickets.values():
            if ticket.worker is worker and ticket.sent:
                log.error("request %s fails with it", ticket.trace)
                ticket.fail(Stalled("The model hangs and is loaded anew. Try again.", retry_after=RETRY_SECONDS))
        if self._supervisor.phase(worker.key) == "ready" and not self._is_busy(worker):
            self._supervisor.state.wanted.add(worker.key)  # it was at hand, and is to be again
        worker.process.kill()
