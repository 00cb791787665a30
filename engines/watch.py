"""Time passes: runners that hang or that nobody uses are ended, the pool's wishes come due, a Mac is kept awake."""

import asyncio
import logging
from typing import Literal

from engines.admission import Admission
from engines.awake import KeepAwake
from engines.clock import AwakeClock
from engines.errors import Stalled
from engines.supervisor import RETRY_SECONDS, Supervisor
from engines.tasks import Tasks
from engines.watchdog import answers, verdict
from engines.worker import Worker

TICK_SECONDS = 0.25
OPEN_IDLE_SECONDS = 30.0

log = logging.getLogger("runtime")


class Watch:
    """Moves the `clock`, of which all others read."""

    def __init__(self, clock: AwakeClock, admission: Admission, supervisor: Supervisor, awake: KeepAwake) -> None:
        self._clock = clock
        self._admission = admission
        self._supervisor = supervisor
        self._awake = awake
        self._tasks = Tasks()

    def begin(self) -> None:
        self._tasks.spawn(self._ticks())

    async def close(self) -> None:
        await self._tasks.close()
        await asyncio.to_thread(self._awake.wanted, False)

    def late(self) -> list[str]:
        """The keys of models whose runners have been silent for long."""
        return [worker.key for worker in self._supervisor.runners if self._verdict(worker) != "well"]

    async def _ticks(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = self._clock.tick()
            for worker in self._supervisor.runners:
                if self._verdict(worker) == "stuck" or not self._answers(worker, now):
                    self._end_hung(worker)
                if not self._is_used(worker) and now - worker.last_used > OPEN_IDLE_SECONDS:
                    worker.kill()
            await asyncio.to_thread(self._awake.wanted, self._admission.busy)
            self._supervisor.settle()

    def _verdict(self, worker: Worker) -> Literal["well", "late", "stuck"]:
        resident = self._supervisor.state.residents.get(worker.key)
        busy = resident is not None and bool(resident.running)
        return verdict(worker.facts(busy, self._supervisor.phase(worker.key) == "loading"), self._clock.now)

    def _answers(self, worker: Worker, now: float) -> bool:
        """Whether its tokenizer opens and answers, as far as anybody waits for it."""
        tickets = self._admission.tickets.values()
        asked = [ticket.asked_at for ticket in tickets if ticket.worker is worker and ticket.asking]
        return all(answers(since, now) for since in (asked if worker.opened.done() else [worker.since]))

    def _is_used(self, worker: Worker) -> bool:
        return worker.key in self._supervisor.state.residents or any(
            ticket.entry.key == worker.key for ticket in self._admission.tickets.values()
        )

    def _end_hung(self, worker: Worker) -> None:
        log.error("the runner of %s hangs and is ended", self._supervisor.main_name(worker.key))
        for ticket in self._admission.tickets.values():
            if ticket.worker is worker and ticket.sent:
                log.error("request %s fails with it", ticket.trace)
                ticket.fail(Stalled("The model hangs and is loaded anew. Try again.", retry_after=RETRY_SECONDS))
        worker.process.kill()
