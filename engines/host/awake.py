"""Keeps a Mac awake while there is work, and a little longer."""

import logging
import os
import subprocess

from engines.host.system import Host

LINGER_SECONDS = 5.0  # a helper process for each of many short requests would cost more than the requests
RETRY_SECONDS = 60.0

log = logging.getLogger("awake")


class KeepAwake:
    """Holds an assertion against idle sleep through a helper process, which ends by itself when this process dies.

    Where the helper can't be started, the log says so once, and it is tried again now and then.
    """

    def __init__(self, command: tuple[str, ...] | None = None, linger: float = LINGER_SECONDS) -> None:
        self._command = Host().keep_awake_command(os.getpid()) if command is None else command
        self._linger = linger
        self._helper: subprocess.Popen[bytes] | None = None
        self._wanted_at = 0.0
        self._retry_at = 0.0
        self._told = False

    def wanted(self, work: bool, now: float) -> None:
        """Say, as often as you like, whether there is work at `now`, in seconds of any clock that never goes back."""
        if work:
            self._wanted_at = now
            if self._helper is None and self._command and now >= self._retry_at:
                self._start(now)
        elif self._helper is not None and now - self._wanted_at >= self._linger:
            self.release()

    def release(self) -> None:
        """Let the Mac sleep."""
        if self._helper is not None:
            self._helper.kill()
            self._helper.wait()
            self._helper = None

    def _start(self, now: float) -> None:
        try:
            self._helper = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
        except OSError as error:
            self._retry_at = now + RETRY_SECONDS
            if not self._told:
                log.warning(
                    "this Mac may fall asleep in the middle of work: %s can't be started (%s)",
                    *self._command[:1],
                    error,
                )
            self._told = True
