"""Files of a model's folder, read within limits: a folder is a stranger's, and may hold anything under any name."""

import errno
import json
import os
import stat
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec

from engines.host import mac_files
from engines.types.errors import CheckpointUnusable, raise_shortage

Json = dict[str, Any]

MOST_BYTES = 64 << 20  # of a configuration, an index of weights, a template
MOST_TOKENIZER_BYTES = 256 << 20  # Gemma 3's have 33 MB


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes | None:
    """What is in an ordinary file; None when nothing has this name.

    Never waits for a writer. Raises `CheckpointUnusable`, naming the file, for anything but a file, for one that is
    larger than `most` bytes, and for what can't be read.
    """
    return _read(path, most, is_whole=True)


def read_start(path: Path, size: int) -> bytes | None:
    """The first `size` bytes, however large the file is; else as `read_bytes`."""
    return _read(path, size, is_whole=False)


def _read(path: Path, most: int, *, is_whole: bool) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise_shortage(error)
        if error.errno in (errno.ENXIO, errno.ENOTDIR, errno.EOPNOTSUPP):
            raise CheckpointUnusable(f"{path} is no file. {_AGAIN}") from error
        raise CheckpointUnusable(f"{path} can't be read: {mac_files.reason(error)}.") from error
    try:
        return _content(path, descriptor, most, is_whole)
    except OSError as error:
        raise CheckpointUnusable(f"{path} can't be read: {error.strerror}. {_AGAIN}") from error
    finally:
        os.close(descriptor)


def read_text(path: Path, most: int = MOST_BYTES) -> str | None:
    """As `read_bytes`, for UTF-8."""
    content = read_bytes(path, most)
    try:
        return None if content is None else content.decode()
    except UnicodeDecodeError as error:
        raise CheckpointUnusable(f"{path} can't be read: it isn't UTF-8. {_AGAIN}") from error


def read_json(path: Path, most: int = MOST_BYTES) -> Json:
    """The object in a JSON file; empty when there is no such file. Raises as `read_bytes`."""
    content = read_bytes(path, most)
    if content is None:
        return {}
    try:
        value = _json(content)
    except (ValueError, RecursionError) as error:  # the former of msgspec, of json and of UTF-8
        raise CheckpointUnusable(f"{path} can't be read: {error}. {_AGAIN}") from error
    if not isinstance(value, dict):
        raise CheckpointUnusable(f"{path} isn't a JSON object. {_AGAIN}")
    return value


def _json(content: bytes) -> Any:
    """As Python writes it, from whom such files come: NaN and Infinity are numbers."""
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:
        if not any(word in content for word in (b"NaN", b"Infinity")):
            raise
        return json.loads(content)


def is_whole(path: Path) -> bool:
    """An ordinary file with content, and not a link to a download that hasn't ended."""
    try:
        status = path.stat()
        return stat.S_ISREG(status.st_mode) and status.st_size > 0 and path.resolve().suffix != ".incomplete"
    except (OSError, RuntimeError):  # the latter for links that run in a circle
        return False


def matching(folder: Path, pattern: str) -> list[Path]:
    """What is called so, in order; not what macOS leaves beside files of foreign volumes.

    Raises `OutOfDescriptors`, or `CheckpointUnusable` for a folder that can't be read: from Python 3.12 on `Path.glob`
    takes both for an empty one.
    """
    inner, _, name = pattern.rpartition("/")
    place = folder / inner
    try:
        there = os.listdir(place)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise_shortage(error)
        raise CheckpointUnusable(f"{place} can't be read: {mac_files.reason(error)}.") from error
    return [place / one for one in sorted(there) if fnmatchcase(one, name) and not one.startswith("._")]


def whole_files(folder: Path, pattern: str) -> list[Path]:
    """Those that match and are whole. Raises `CheckpointUnusable` for what is no file, or isn't on this machine:
    reading it might never end."""
    found = matching(folder, pattern)
    for path in found:
        if path.exists() and not path.is_file():
            raise CheckpointUnusable(f"{path} is no file. Remove it, or fetch the model again.")
        if path.exists() and mac_files.is_in_cloud(path.stat()):
            raise CheckpointUnusable(f"{path} can't be read now: {mac_files.IN_THE_CLOUD}.")
    return [path for path in found if is_whole(path)]


_AGAIN = "Fetch the model again."


def _content(path: Path, descriptor: int, most: int, is_whole: bool) -> bytes:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointUnusable(f"{path} is {_kind(status.st_mode)} and no file. {_AGAIN}")
    if mac_files.is_in_cloud(status):
        raise CheckpointUnusable(f"{path} can't be read now: {mac_files.IN_THE_CLOUD}.")
    if is_whole and status.st_size > most:
        raise CheckpointUnusable(f"{path} has {status.st_size / 1e6:,.0f} MB, too many for what it is. {_AGAIN}")
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(most)


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")
