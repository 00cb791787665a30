"""What commands print. A reader that leaves (`| head`) and a full disk end a command without a traceback."""

import errno
import os
import sys
from contextlib import suppress
from typing import TextIO

READER_LEFT = 141  # what a shell shows of a program that SIGPIPE ends


class OutputFailed(Exception):
    """Standard output takes nothing any more."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self._error = error

    def told(self) -> int:
        """The exit status; a reader that left on purpose needs no words. What is still unwritten is dropped."""
        with suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
        if self._error.errno == errno.EPIPE:
            return READER_LEFT
        complain(f"the output can't be written: {self._error.strerror}")
        return 1


class Output:
    """Standard output as commands use it; raises `OutputFailed` and nothing else."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # a terminal that knows no Chinese shows that there is some

    def write(self, text: str) -> int:
        try:
            return self._open().write(text)
        except OSError as error:
            raise OutputFailed(error) from error

    def flush(self) -> None:
        try:
            if self._stream is not None:
                self._stream.flush()
        except OSError as error:
            raise OutputFailed(error) from error

    def _open(self) -> TextIO:
        if self._stream is None:
            raise OSError(errno.EBADF, "it is closed")
        return self._stream


def complain(text: str) -> None:
    """A line for people on standard error."""
    tell(f"mlx-local: {text}\n")


def tell(text: str) -> None:
    """For people on standard error, if there is one that takes it: nothing depends on it."""
    with suppress(OSError, AttributeError):
        sys.stderr.write(text)
        sys.stderr.flush()
