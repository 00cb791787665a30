"""Writing for good: what is synced survives a loss of power."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path


def sync(
    descriptor: int,
    full: int | None = getattr(fcntl, "F_FULLFSYNC", None),
    control: Callable[[int, int], object] = fcntl.fcntl,
) -> None:
    """Write a file or folder to its disk; on macOS fsync alone leaves it in the disk's own cache (fsync(2)).

    Disks that don't know the stronger order (network shares) get the weaker one. Raises `OSError` if neither works.
    """
    if full is not None:
        try:
            control(descriptor, full)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to its disk. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)
