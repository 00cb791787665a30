"""Keeps a Mac awake while there is work, and no longer."""

import os
import subprocess
import sys


class KeepAwake:
    """Holds an assertion against idle sleep through a helper process, which ends by itself when this process dies."""

    def __init__(self, command: tuple[str, ...] | None = None) -> None:
        on_mac = ("/usr/bin/caffeinate", "-i", "-w", str(os.getpid()))
        self._command = command if command is not None else on_mac if sys.platform == "darwin" else ()
        self._helper: subprocess.Popen[bytes] | None = None

    def wanted(self, work: bool) -> None:
        """Say, as often as you like, whether there is work."""
        if work and self._helper is None and self._command:
            self._helper = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
        elif not work and self._helper is not None:
            self._helper.kill()
            self._helper.wait()
            self._helper = None
