"""Turns on the device that all runners share: interactive work step by step, background work between those steps.

Two processes that compute at once take much more than twice as long for each step, and a long step of one is a gap in
the other's stream. So each computes alone. Every interactive step pays half the time that it or the one before took,
the shorter, into an account that all runners have; background work goes on as long as there is anything in it, and then
yields.
"""

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator

SHARE = 0.5  # of interactive time, for all background work together: gaps grow by half
LOOK_SECONDS = 0.0002
PATIENCE_SECONDS = 0.5  # then whoever has the turn is taken for hanging, and no longer waited for
_TURN, _NEXT = 0, 1  # bytes of the file that are locked
_PLACE, _BOOK = 8, struct.Struct("<dd")  # where the account is; it, and how long the last interactive step took


def paid_in(account: float, worked: float, before: float) -> float:
    """The account after an interactive step, and one before: what was overdrawn is paid back; nothing is saved up.

    A single long step, in which a prompt is read, is a gap that isn't made longer by its half.
    """
    return min(account, 0.0) + SHARE * min(worked, before)


def drawn(account: float, worked: float) -> float:
    """The account after background work. Only the last of it is owed: nobody waited for what came before."""
    return max(account - worked, -worked)


class Turns:
    """A runner's part in it. `file` is a descriptor of a file that all of them have, where bytes are locked; whoever
    has the turn may change the account in it. `yields`: what is in work is in the background.

    Who waits holds `_NEXT`, so that who had the turn can't take it again before. The end of a process frees what it
    holds. `share` is called from another thread than the rest.
    """

    def __init__(self, file: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._began: float | None = None  # or when the account was settled last
        self.shared = False
        self.yields = False

    def share(self, shared: bool, yields: bool = False) -> None:
        """Whether turns are to be taken, and whether by background work, from the next pause on."""
        self.shared, self.yields = shared, yields

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Around a step: its turn, if turns are taken."""
        self._take()
        try:
            yield
        finally:
            self._give()

    def pause(self) -> float:
        """Within a step, where some of it has been computed: lets others go on if it is time.

        The seconds since the last pause, or since the turn began; 0 while there is none.
        """
        worked = self._worked()
        if not self.shared:
            self._give()
        elif self._began is None:
            self._take()
        elif ((account := self._settle()) <= 0 or not self.yields) and self._is_awaited():
            self._leave()
            if self.yields:
                time.sleep(min(-account / SHARE, PATIENCE_SECONDS))  # sooner it isn't paid back
            self._take()
        return worked

    def left(self) -> float:
        """The seconds till others are to go on, 0 if they are overdue."""
        return max(0.0, self._book()[0] - self._worked())

    def _worked(self) -> float:
        return 0.0 if self._began is None else self._clock() - self._began

    def _settle(self) -> float:
        """What is in the account behind the work since it was settled last."""
        worked = self._worked()
        account, before = self._book()
        account = drawn(account, worked) if self.yields else paid_in(account, worked, before)
        self._began = self._clock()
        os.pwrite(self._file, _BOOK.pack(account, before if self.yields else worked), _PLACE)
        return account

    def _book(self) -> tuple[float, float]:
        """The account, and how long the last interactive step took."""
        written = os.pread(self._file, _BOOK.size, _PLACE)
        account, before = _BOOK.unpack(written) if written else (0.0, 0.0)
        return float(account), float(before)

    def _is_awaited(self) -> bool:
        """Whether somebody waits for the turn."""
        if not self._has(_NEXT):
            return True
        self._free(_NEXT)
        return False

    def _take(self) -> None:
        if not self.shared:
            return
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
        """As `_give`, of what is settled."""
        if self._began is not None:
            self._free(_TURN)
        self._began = None

    def _wait(self, byte: int, until: float) -> bool:
        """Whether it is ours now; False when it lasted too long."""
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
