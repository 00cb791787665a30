"""Turns on the device that all runners share: while a chat is answered, sound is written down between its steps.

Two processes that compute at once take much more than twice as long for each step, and a long step of one is a gap in
the other's stream. So each computes alone: a chat a step, what is patient a spell of some milliseconds.
"""

import contextlib
import fcntl
import time
from collections.abc import Callable, Collection, Iterator

from engines.types import Capability

INTERACTIVE: frozenset[Capability] = frozenset({"chat"})
PATIENT: frozenset[Capability] = frozenset({"transcription", "alignment"})
SPELL_SECONDS = 0.002  # of what is patient, at least, until others may go on
LONGEST_REST = 0.02
LOOK_SECONDS = 0.0002
PATIENCE_SECONDS = 0.5  # then whoever has the turn is taken for hanging, and no longer waited for
_TURN, _NEXT = 0, 1  # bytes of the file


def are_taken(capability: Capability | None, at_work: Collection[Capability | None]) -> bool:
    """Whether a runner takes turns, by what it does, and by what all runners do that have requests in work."""
    others = INTERACTIVE if capability in PATIENT else PATIENT if capability in INTERACTIVE else frozenset()
    return not others.isdisjoint(at_work)


class Turns:
    """A runner's part in it. `file` is a descriptor of a file that all of them have, where bytes are locked.

    Who waits holds `_NEXT`, so that who had the turn can't take it again before. The end of a process frees what it
    holds. `share` is called from another thread than the rest.
    """

    def __init__(self, file: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._began: float | None = None
        self.shared = False

    def share(self, shared: bool) -> None:
        """Whether turns are to be taken, from the next pause on."""
        self.shared = shared

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Around a step: its turn, if turns are taken."""
        self._take()
        try:
            yield
        finally:
            self._give()

    def pause(self) -> None:
        """Within a step, where much may have been computed: lets another go on if the turn was long enough."""
        worked = SPELL_SECONDS if self._began is None else self._clock() - self._began
        if worked >= SPELL_SECONDS or not self.shared:
            self._give()
            if self.shared:
                time.sleep(min(worked, LONGEST_REST))
            self._take()

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
            self._free(_TURN)
        self._began = None

    def _wait(self, byte: int, until: float) -> bool:
        """Whether it is ours now; False when it lasted too long."""
        while True:
            with contextlib.suppress(BlockingIOError, PermissionError):
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
                return True
            if self._clock() >= until:
                return False
            time.sleep(LOOK_SECONDS)

    def _free(self, byte: int) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)
