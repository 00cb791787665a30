"""Every runner process, and the spare: started, followed for its whole life, ended. Nothing of queues or memory."""

import asyncio
import logging
import tempfile
from collections.abc import Iterator
from typing import Protocol

from engines import device_fault, wire
from engines.catalog import Entry
from engines.clock import AwakeClock
from engines.errors import RunnerDied, stopping
from engines.process import RunnerProcess
from engines.tasks import Tasks
from engines.worker import Worker

COMMAND = ("-P", "-m", "engines.runner")

log = logging.getLogger("runners")

Heard = wire.Loaded | wire.LoadFailed | wire.Said | wire.Finished | wire.Failed | wire.Answer


class Listener(Protocol):
    """Who is told what runners say and when they end."""

    def heard(self, worker: Worker, report: Heard) -> None: ...

    def ended(self, worker: Worker, reason: str, expected: bool) -> None:
        """`expected`: the runner was told to end; otherwise it died."""
        ...

    def device(self, recommended_bytes: int) -> None:
        """What the device recommends to use, told by the spare."""
        ...


class Runners:
    """At most one runner a model, by the model's key."""

    def __init__(
        self, listener: Listener, clock: AwakeClock, context_limit: int, spare: bool, command: tuple[str, ...]
    ) -> None:
        self._listener = listener
        self._clock = clock
        self._context_limit = context_limit
        self._command = command
        self._wants_spare = spare
        self._spare: RunnerProcess | None = None
        self._workers: dict[str, Worker] = {}
        self._tasks = Tasks()
        self._turns = tempfile.TemporaryFile()  # of which runners lock bytes
        self._closed = False

    def __iter__(self) -> Iterator[Worker]:
        return iter(list(self._workers.values()))

    def get(self, key: str) -> Worker | None:
        """The model's runner, unless there is none or it is being ended."""
        worker = self._workers.get(key)
        return None if worker is None or worker.stopping else worker

    @property
    def spare_pid(self) -> int | None:
        return self._spare.pid if self._spare is not None else None

    def prepare_spare(self) -> None:
        if self._wants_spare:
            self._tasks.spawn(self._prepare_spare())

    async def open(self, entry: Entry) -> Worker:
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
        workers, spare = list(self._workers.values()), self._spare
        self._workers.clear()
        self._spare = None
        processes = [worker.process for worker in workers] + ([spare] if spare is not None else [])
        for process in processes:
            process.kill()
        await asyncio.gather(*(process.ended() for process in processes))
        for worker in workers:
            worker.fail_opening(stopping())
            worker.gone.set()
        self._turns.close()

    async def _started(self, entry: Entry) -> Worker:
        process = await self._new_process()
        if self._closed:
            await _end(process)
            raise stopping()
        if (other := self._workers.get(entry.key)) is not None:
            await _end(process)  # somebody else was quicker
            return other
        worker = Worker(entry.key, process, self._clock.now)
        self._workers[entry.key] = worker
        worker.send(wire.Open(entry.checkpoint.folder, self._context_limit))
        self._tasks.spawn(self._follow(worker))
        return worker

    async def _new_process(self) -> RunnerProcess:
        """The spare, if it is ready, so that its imports cost nobody's time; the next spare follows."""
        spare, self._spare = self._spare, None
        if spare is not None:
            self.prepare_spare()
            if spare.alive:
                return spare
            await spare.ended()
        if self._closed:
            raise stopping()
        return await RunnerProcess.start(self._command, self._turns.fileno())

    async def _prepare_spare(self) -> None:
        process = await RunnerProcess.start(self._command, self._turns.fileno())
        wanted = False
        try:
            hello = await process.hello()
            wanted = hello is not None and self._spare is None
        finally:
            if not wanted:
                await _end(process)
        if hello is not None and wanted:
            self._spare = process
            self._listener.device(hello.device_bytes)

    async def _follow(self, worker: Worker) -> None:
        """Take in what a runner says, until it ends. One that can't be understood is ended, for requests wait on it."""
        try:
            await self._listen(worker)
        except Exception:
            log.exception("what runner %d of %s says can't be taken in", worker.process.pid, worker.key)
        await self._end(worker)

    async def _listen(self, worker: Worker) -> None:
        async for report in worker.process.reports():
            match report:
                case wire.Opened():
                    worker.opened.set_result(None)
                case wire.OpenFailed():
                    worker.fail_opening(report.failure.error())
                    worker.kill()
                case wire.Beat():
                    worker.beat(report, self._clock.now)
                case wire.Hello():
                    log.info("runner %d on %s runs %s", report.pid, report.device, worker.key)
                case _:
                    self._listener.heard(worker, report)

    async def _end(self, worker: Worker) -> None:
        worker.process.kill()
        status = await worker.process.ended()
        expected, worker.stopping = worker.stopping, True
        if self._workers.get(worker.key) is worker:
            del self._workers[worker.key]
        how = f"signal {-status}" if status < 0 else f"status {status}"
        cause = "The device failed under the model" if status == device_fault.STATUS else "The model's process ended"
        reason = f"{cause} ({how})."
        worker.fail_opening(RunnerDied(f"{reason} Try again."))
        worker.gone.set()
        if not expected:
            log.error("runner %d of %s died, %s", worker.process.pid, worker.key, how)
        self._listener.ended(worker, reason, expected)


async def _end(process: RunnerProcess) -> None:
    process.kill()
    await process.ended()
