"""A lock on the device that all runners share, so that each computes alone, step by step.

Two processes that compute at once take much more than twice as long for each step, and a long step of one is a gap in
the other's stream. A runner takes the lock for each step: two of them alternate. A runner that yields (its requests
are in the background, or its steps are long) computes on a time budget that all of those share: every step of the
others adds two thirds of the time that it or the one before took, the shorter. Once the budget is spent, it waits in
the middle of its step until others have added to it.
"""

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator

SHARE = 0.65  # of the time of other steps, for all that yields together: the gaps of the others grow by as much
LOOK_SECONDS = 0.0002
PATIENCE_SECONDS = 0.5  # a process that keeps the lock longer is taken for hung: others compute beside it
_TURN, _NEXT = 0, 1  # bytes of the file that are locked
_PLACE, _BUDGET = 8, struct.Struct("<dd")  # where the time budget is; it, and how long the last step of others took


def paid_in(budget: float, worked: float, before: float) -> float:
    """The time budget, in seconds, after a step of `worked` seconds that doesn't yield, and one of `before`.

    Debts are paid back; nothing is saved up. A single long step, in which a prompt is prefilled, is a gap that isn't
    made longer by its share.
    """
    return min(budget, 0.0) + SHARE * min(worked, before)


def drawn(budget: float, worked: float) -> float:
    """The time budget after work that yields. No more is owed than its last part: nobody waited for what was before."""
    return max(budget - worked, -worked)


class DeviceLock:
    """A runner's view of the lock. `file` is a descriptor of a file that all of them have, of which bytes are locked;
    the process that has the lock may change the time budget in it.

    The process that waits holds `_NEXT`, so that the one that had the lock can't take it again before. The end of a
    process frees what it holds. `share` is called from another thread than the rest.
    """

    def __init__(self, file: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._began: float | None = None  # or when the budget was settled last
        self.shared = False
        self._on_budget = False

    @property
    def yields(self) -> bool:
        """Whether others compute as well, and this runner on the time budget."""
        return self.shared and self._on_budget

    def share(self, shared: bool, yields: bool = False) -> None:
        """Whether others compute as well, from the next pause on; `yields`: this runner on the time budget."""
        self.shared, self._on_budget = shared, yields

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Around a step: with the lock, if the device is shared."""
        self._take()
        try:
            yield
        finally:
            self._give()

    def pause(self) -> float:
        """Within a step, where some of it has been computed: lets others compute if this runner has to.

        The seconds since the last pause, or since the lock was taken; 0 while it isn't.
        """
        worked = self._worked()
        if not self.shared:
            self._give()
        elif self._began is None:
            self._take()
        elif self._settle() <= 0 and self._on_budget and self._is_awaited():
            self._leave()
            self._take()
        return worked

    def left(self) -> float:
        """The seconds until this runner is to let others compute, 0 if that is overdue."""
        return max(0.0, self._read_budget()[0] - self._worked())

    def _worked(self) -> float:
        return 0.0 if self._began is None else self._clock() - self._began

    def _settle(self) -> float:
        """The time budget after the work since it was settled last."""
        worked = self._worked()
        budget, before = self._read_budget()
        budget = drawn(budget, worked) if self._on_budget else paid_in(budget, worked, before)
        self._began = self._clock()
        os.pwrite(self._file, _BUDGET.pack(budget, before if self._on_budget else worked), _PLACE)
        return budget

    def _read_budget(self) -> tuple[float, float]:
        """The time budget, and how long the last step of those that don't yield took; both in seconds."""
        written = os.pread(self._file, _BUDGET.size, _PLACE)
        budget, before = _BUDGET.unpack(written) if written else (0.0, 0.0)
        return float(budget), float(before)

    def _is_awaited(self) -> bool:
        """Whether another process waits for the lock."""
        if not self._has(_NEXT):
            return True
        self._free(_NEXT)
        return False

    def _take(self) -> None:
        if not self.shared:
            return
        if self._on_budget and (owed := -self._read_budget()[0]) > 0:
            time.sleep(min(owed / SHARE, PATIENCE_SECONDS))  # it isn't paid back sooner
        until = self._clock() + PATIENCE_SECONDS
        if self._wait(_NEXT, until):
            try:
                if self._wait(_TURN, until):
                    self._began = self._clock()
            finally:
                self._free(_NEXT)

    def _give(self) -> None:
        if self._began is not None:
            self._settle()
        self._leave()

    def _leave(self) -> None:
        """As `_give`, where the budget is settled."""
        if self._began is not None:
            self._free(_TURN)
        self._began = None

    def _wait(self, byte: int, until: float) -> bool:
        """Whether it is ours now; False when it took too long."""
        while not self._has(byte):
            if self._clock() >= until:
                return False
            time.sleep(LOOK_SECONDS)
        return True

    def _has(self, byte: int) -> bool:
        """Whether it is ours now, without waiting."""
        with contextlib.suppress(BlockingIOError, PermissionError):
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            return True
        return False

    def _free(self, byte: int) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)
