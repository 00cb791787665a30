"""One model's runner with what the server knows of it: whether its tokenizer is open, and when it last stepped."""

import asyncio

from engines import wire
from engines.errors import ServiceError
from engines.process import RunnerProcess
from engines.watchdog import Facts


class Worker:
    """Owned by `Runners`. `opened` is set to None once prompts can be prepared, or to the error that prevents it.

    It exists `since`, and `opened` is done within the watchdog's patience or the runner is ended.
    """

    def __init__(self, key: str, process: RunnerProcess, now: float) -> None:
        self.key = key
        self.process = process
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stopping = False
        self.gone = asyncio.Event()
        self.last_used = now
        self.since = now
        self._moved = now
        self._steps = 0
        self._slowest = 0.0
        self.active_bytes = 0
        self._takes_turns = False

    def send(self, command: wire.Command) -> None:
        self.process.send(command)

    def take_turns(self, on: bool) -> None:
        """On the device with others, or no longer."""
        if on != self._takes_turns:
            self._takes_turns = on
            self.send(wire.TakeTurns(on))

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

    def beat(self, report: wire.Beat, now: float) -> None:
        self._moved = now
        self._steps = report.steps
        self._slowest = report.slowest_step
        self.active_bytes = report.active_bytes

    def facts(self, busy: bool, loading: bool) -> Facts:
        return Facts(
            phase="loading" if loading else "ready",
            busy=busy,
            since=self._moved,
            first_step_done=self._steps > 0,
            slowest_step=self._slowest,
        )
