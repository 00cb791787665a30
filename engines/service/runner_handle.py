"""One runner with what the server knows of it: its model, whether its tokenizer is open, when it last gave a sign."""

import asyncio

from engines.ipc import job, runner_protocol
from engines.ipc.child import RunnerProcess
from engines.ipc.liveness import PING_SECONDS, Facts
from engines.types.errors import ServiceError


class RunnerHandle:
    """Owned by `Runners`. `key` is its model's, "" for the spare. `ready` is set once its imports are done, or it is
    gone; `opened` is set to None once prompts can be prepared, or to the error that prevents it.

    Every sign of life, a step's or an answer to a ping, counts for the watchdog.
    """

    def __init__(self, key: str, process: RunnerProcess, now: float) -> None:
        self.key = key
        self.process = process
        self.ready = asyncio.Event()
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stopping = False
        self.gone = asyncio.Event()
        self.last_used = now
        self._moved = now
        self._answered = now
        self._pinged: float | None = None
        self._ping_due = now
        self._steps = 0
        self._slowest = 0.0
        self.active_bytes = 0
        self._sharing = runner_protocol.ShareDevice(False)

    def send(self, command: runner_protocol.Command) -> None:
        self.process.send(command)

    def open(self, key: str, folder: str, context_limit: int, now: float) -> None:
        """From now on it is this model's."""
        self.key = key
        self.last_used = self._answered = now
        self.send(runner_protocol.Open(folder, context_limit))

    def ping(self, now: float) -> None:
        """Asks for a sign of life, if that is due and none is owed already."""
        if self._pinged is None and now >= self._ping_due and self.ready.is_set():
            self._pinged = now
            self.send(job.Ping())

    def share_device(self, sharing: runner_protocol.ShareDevice) -> None:
        """Tell it, if it isn't what it knows."""
        if sharing != self._sharing:
            self._sharing = sharing
            self.send(sharing)

    def kill(self) -> None:
        """From now on its end is expected."""
        self.stopping = True
        self.process.kill()

    def fail_opening(self, error: ServiceError) -> None:
        """Whoever waits for the tokenizer, or asks later, gets this error; without effect once it is open."""
        if not self.opened.done():
            self.opened.set_exception(error)
            self.opened.exception()  # nobody may be waiting, which is no fault

    def work_begins(self, now: float) -> None:
        """The watchdog counts from here when the runner was idle, or begins to load."""
        self._moved = now
        self._pinged, self._ping_due = None, now + PING_SECONDS

    def heard(self, now: float) -> None:
        """It says something: what it owes beside is owed from now on."""
        self._answered = now
        if self._pinged is not None:
            self._pinged = now

    def beat(self, report: runner_protocol.Beat, now: float) -> None:
        self._moved = now
        self._pinged, self._ping_due = None, now + PING_SECONDS
        self._steps = report.steps
        self._slowest = report.slowest_step
        self.active_bytes = report.active_bytes

    def facts(self, busy: bool, loading: bool, asked_at: float | None) -> list[Facts]:
        """`asked_at`: since when its helper owes an answer, if it does."""
        first = not self.ready.is_set()
        if first:
            return [Facts(self._answered, is_first=True)]
        owed = Facts(None if asked_at is None else max(asked_at, self._answered))
        if loading:
            return [owed, Facts(self._moved, is_first=True)]
        if busy:
            return [owed, Facts(self._moved, is_first=self._steps == 0, slowest_step=self._slowest)]
        return [owed, Facts(self._pinged)]
