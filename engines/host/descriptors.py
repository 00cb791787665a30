"""Open files of a process: as many as the system lets it have, whatever the shell or a library says.

macOS gives a terminal and launchd a soft limit of 256; a library lowers the limit, or fails to, when it is imported.
"""

import contextlib
import os
import resource
import sys
from collections.abc import Callable, Iterator

WANTED = 10_240  # macOS's OPEN_MAX: beyond it, older releases refuse

Limits = tuple[int, int]


def raise_limit(
    get: Callable[[int], Limits] = resource.getrlimit, set: Callable[[int, Limits], None] = resource.setrlimit
) -> int:
    """Raise the soft limit to `WANTED`, or as far as the system allows; it is never lowered. The limit in effect."""
    kind = resource.RLIMIT_NOFILE
    soft, hard = get(kind)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    while soft != resource.RLIM_INFINITY and wanted > soft:
        try:
            set(kind, (wanted, hard))
        except (ValueError, OSError):  # a limit of the whole system that `hard` doesn't tell
            wanted //= 2
        else:
            return wanted
    return WANTED if soft == resource.RLIM_INFINITY else soft


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """While libraries are imported: mlx-lm sets both limits to its own figures, or fails where it may not."""
    set_limit = resource.setrlimit

    def set_others(kind: int, limits: Limits) -> None:
        if kind != resource.RLIMIT_NOFILE:
            set_limit(kind, limits)

    resource.setrlimit = set_others
    try:
        yield
    finally:
        resource.setrlimit = set_limit


def fill_standard() -> None:
    """Open what of stdin, stdout and stderr was closed, for else a socket gets its number and a library's lines."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)
