"""Every runner process, and the spare: started, followed for its whole life, ended. Nothing of queues or memory."""

import asyncio
import logging
import tempfile
from collections.abc import Iterator
from typing import Protocol

from engines.host.clock import AwakeClock
from engines.ipc import device_fault, job, runner_protocol
from engines.ipc.child import RunnerProcess
from engines.ipc.liveness import verdict
from engines.ipc.tasks import Tasks
from engines.models.catalog import Entry
from engines.service.runner_handle import RunnerHandle
from engines.types.errors import RunnerDied, stopping

COMMAND = ("-P", "-m", "engines.runner.main")
SPARE_SECONDS = 10.0

log = logging.getLogger("runners")

Heard = (
    runner_protocol.Loaded
    | runner_protocol.LoadingFailed
    | runner_protocol.Said
    | runner_protocol.Finished
    | job.Failed
    | runner_protocol.Answer
)


class RunnerListener(Protocol):
    """Who is told what runners say and when they end."""

    def heard(self, worker: RunnerHandle, report: Heard) -> None: ...

    def ended(self, worker: RunnerHandle, reason: str, expected: bool) -> None:
        """`expected`: the runner was told to end; otherwise it died."""
        ...

    def device(self, recommended_bytes: int) -> None:
        """What the device recommends to use, told by each runner."""
        ...


class Runners:
    """At most one runner a model, by the model's key."""

    def __init__(
        self, listener: RunnerListener, clock: AwakeClock, context_limit: int, spare: bool, command: tuple[str, ...]
    ) -> None:
        self._listener = listener
        self._clock = clock
        self._context_limit = context_limit
        self._command = command
        self._wants_spare = spare
        self._spare: RunnerHandle | None = None
        self._workers: dict[str, RunnerHandle] = {}
        self._nameless: set[RunnerHandle] = set()  # of no model: the spare, and what may become one
        self._spare_due = 0.0
        self._tasks = Tasks()
        self._lock = tempfile.TemporaryFile()  # of which runners lock bytes
        self._closed = False

    def __iter__(self) -> Iterator[RunnerHandle]:
        """Those of models."""
        return iter(list(self._workers.values()))

    @property
    def everybody(self) -> list[RunnerHandle]:
        """The spare too."""
        return [*self._workers.values(), *self._nameless]

    def get(self, key: str) -> RunnerHandle | None:
        """The model's runner, unless there is none or it is being ended."""
        worker = self._workers.get(key)
        return None if worker is None or worker.stopping else worker

    @property
    def spare_pid(self) -> int | None:
        return self._spare.process.pid if self._spare is not None else None

    def prepare_spare(self) -> None:
        """Have one, soon. One that is lost isn't replaced at once, in case none can live."""
        if self._wants_spare and not self._nameless and not self._closed and self._clock.now >= self._spare_due:
            self._spare_due = self._clock.now + SPARE_SECONDS
            self._tasks.spawn(self._prepare_spare())

    async def open(self, entry: Entry) -> RunnerHandle:
        """The model's runner with its tokenizer open; started if there is none. Raises what prevents it."""
        while (worker := self._workers.get(entry.key)) is not None and worker.stopping:
            await worker.gone.wait()
        if worker is None:
            worker = await self._started(entry)
        await asyncio.shield(worker.opened)
        worker.last_used = self._clock.now
        return worker

    async def close(self) -> None:
        """End them all, and wait for it. Whoever waits for one is told."""
        self._closed = True
        await self._tasks.close()
        workers = self.everybody
        self._workers.clear()
        self._nameless.clear()
        self._spare = None
        for worker in workers:
            worker.process.kill()
        await asyncio.gather(*(worker.process.ended() for worker in workers))
        for worker in workers:
            worker.fail_opening(stopping())
            worker.gone.set()
        self._lock.close()

    async def _started(self, entry: Entry) -> RunnerHandle:
        worker = self._take_spare() or await self._new()
        if (other := self._workers.get(entry.key)) is not None:
            worker.kill()  # somebody else was quicker
            return other
        self._nameless.discard(worker)
        self._workers[entry.key] = worker
        worker.open(entry.key, entry.checkpoint.folder, self._context_limit, self._clock.now)
        self._spare_due = 0.0
        self.prepare_spare()
        return worker

    def _take_spare(self) -> RunnerHandle | None:
        """The spare, if it is ready and well, so that its imports cost nobody's time."""
        spare, self._spare = self._spare, None
        if spare is None or spare.stopping or not spare.process.alive:
            return None
        if any(verdict(facts, self._clock.now) != "well" for facts in spare.facts(False, False, None)):
            spare.kill()
            return None
        return spare

    async def _new(self) -> RunnerHandle:
        """A process that is starting, of no model yet."""
        if self._closed:
            raise stopping()
        process = await RunnerProcess.start(self._command, self._lock.fileno())
        if self._closed:
            await _end(process)
            raise stopping()
        worker = RunnerHandle("", process, self._clock.now)
        self._nameless.add(worker)
        self._tasks.spawn(self._follow(worker))
        return worker

    async def _prepare_spare(self) -> None:
        worker = await self._new()
        await worker.ready.wait()
        if worker not in self._nameless or worker.stopping:
            return
        if self._spare is None:
            self._spare = worker
        else:
            worker.kill()

    async def _follow(self, worker: RunnerHandle) -> None:
        """Take in what a runner says, until it ends. One that can't be understood is ended, for requests wait on it."""
        try:
            await self._listen(worker)
        except Exception:
            log.exception("what runner %d of %s says can't be taken in", worker.process.pid, worker.key or "no model")
        await self._end(worker)

    async def _listen(self, worker: RunnerHandle) -> None:
        async for report in worker.process.reports():
            match report:
                case runner_protocol.Opened():
                    worker.heard(self._clock.now)
                    worker.opened.set_result(None)
                case runner_protocol.OpenFailed():
                    worker.fail_opening(report.failure.error())
                    worker.kill()
                case runner_protocol.Beat():
                    worker.beat(report, self._clock.now)
                case runner_protocol.Hello():
                    log.info("runner %d is ready on %s", report.pid, report.device)
                    worker.heard(self._clock.now)
                    worker.ready.set()
                    self._listener.device(report.device_bytes)
                case _:
                    worker.heard(self._clock.now)
                    self._listener.heard(worker, report)

    async def _end(self, worker: RunnerHandle) -> None:
        worker.process.kill()
        status = await worker.process.ended()
        expected, worker.stopping = worker.stopping, True
        self._forget(worker)
        how = f"signal {-status}" if status < 0 else f"status {status}"
        cause = "The device failed under the model" if status == device_fault.STATUS else "The model's process ended"
        reason = f"{cause} ({how})."
        worker.fail_opening(RunnerDied(f"{reason} Try again."))
        worker.ready.set()
        worker.gone.set()
        if not expected:
            log.error("runner %d of %s died, %s", worker.process.pid, worker.key or "no model", how)
        if worker.key:
            self._listener.ended(worker, reason, expected)

    def _forget(self, worker: RunnerHandle) -> None:
        self._nameless.discard(worker)
        if self._spare is worker:
            self._spare = None
        if self._workers.get(worker.key) is worker:
            del self._workers[worker.key]


async def _end(process: RunnerProcess) -> None:
    process.kill()
    await process.ended()
