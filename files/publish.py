"""A new file in a folder: written under a temporary name, synced, then given its own name, which must be free.

A folder is an open descriptor, so that nothing put in its path meanwhile leads elsewhere (`opened`). All of it blocks.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from files.durability import sync, sync_folder

MOST_NUMBERS = 1000
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class NamesTaken(Exception):
    """None of the names that a file may have is free."""


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[int]:
    """A descriptor of `folder`. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def numbered(name: str) -> Iterator[str]:
    """`name`, and then others like it: a.txt, a-2.txt, a-3.txt, …"""
    yield name
    stem, suffix = os.path.splitext(name)
    for number in range(2, MOST_NUMBERS + 2):
        yield f"{stem}-{number}{suffix}"


def write_new(folder: int, names: Iterable[str], data: bytes) -> str:
    """Write a file by the first of `names` that is free, which is returned. Whole, or not there at all.

    Raises `OSError`, and `NamesTaken`.
    """
    partial = _write_partial(folder, data)
    try:
        for name in names:
            with suppress(FileExistsError):
                _publish(folder, partial, name)
                _sync_names(folder)
                return name
    finally:
        with suppress(FileNotFoundError):
            os.unlink(partial, dir_fd=folder)
    raise NamesTaken


def check_writable(folder: int) -> None:
    """Make a file and remove it: what permissions say isn't what a system allows. Raises `OSError`."""
    os.unlink(_write_partial(folder, b""), dir_fd=folder)


def exists(folder: int, name: str) -> bool:
    """Whether the name is taken, by whatever it is. Raises `OSError`, and `ValueError` for what is no name."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def publish_folder(made: Path, place: Path) -> None:
    """Give a finished folder its name, beside it. Raises `FileExistsError` if that is taken, else `OSError`.

    A rename replaces nothing but an empty folder.
    """
    try:
        os.rename(made, place)
    except OSError as error:
        if place.exists():
            raise FileExistsError(error.errno, "the name is taken", str(place)) from error
        raise
    sync_folder(place.parent)


def _write_partial(folder: int, data: bytes) -> str:
    """A file of these bytes, by a temporary name, which is returned and which no file system finds too long."""
    partial = f".{secrets.token_hex(8)}.partial"
    with open(os.open(partial, _NEW_FILE, 0o644, dir_fd=folder), "wb") as file:
        try:
            file.write(data)
            file.flush()
            sync(file.fileno())
        except OSError:
            os.unlink(partial, dir_fd=folder)
            raise
    return partial


def _sync_names(folder: int) -> None:
    """Write the new name to the disk. Some network shares can't sync a folder: the file is whole and there all the
    same."""
    try:
        sync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOTTY):
            raise


def _publish(folder: int, partial: str, name: str) -> None:
    """Raises `FileExistsError` if the name is taken. Neither a link nor an exclusive creation overwrites anything."""
    try:
        os.link(partial, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links (exFAT, some network shares): the name is reserved, then replaced
        os.close(os.open(name, _NEW_FILE, 0o644, dir_fd=folder))
        try:
            os.rename(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            os.unlink(name, dir_fd=folder)
            raise
