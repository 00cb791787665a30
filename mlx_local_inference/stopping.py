"""Signals: when to stop in order, and when at once."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable

import psutil

INTERRUPTED = 130  # the exit status of who was ended by SIGINT


class Stop:
    """`asked` is set by SIGTERM, SIGINT, or the end of the terminal; also before the server is ready: it then starts,
    and stops in order. SIGINT while it stops ends everything now.

    A SIGHUP that is ignored from the start (`nohup`) stays ignored. A second SIGTERM changes nothing: who sends it to
    a group and to the process sends two.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.last_acts: list[Callable[[], object]] = []  # what must not be left behind, when it ends at once
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.asked.set)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGHUP, self.asked.set)

    def at_end_of(self, descriptor: int) -> None:
        """Stop in order when this descriptor reaches its end: when the process that holds the other side has ended,
        however it ended. What can be read from it is dropped.
        """
        loop = asyncio.get_running_loop()

        def read() -> None:
            with contextlib.suppress(OSError):  # one that can't be read has no other side either
                while os.read(descriptor, 1 << 12):
                    pass
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server has stopped already
                loop.call_soon_threadsafe(self.asked.set)

        # A thread, because selectors refuse ordinary files and /dev/null; it holds up no exit.
        threading.Thread(target=read, name="stop-at-eof", daemon=True).start()

    def _interrupt(self) -> None:
        if not self.asked.is_set():
            self.asked.set()
            return
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
        for act in self.last_acts:
            with contextlib.suppress(OSError):
                act()
        os._exit(INTERRUPTED)
