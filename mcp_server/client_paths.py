"""Paths that a client gives → files: what it may read, and where a result goes. Nothing is ever overwritten."""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

from engines.host import mac_files
from engines.types.errors import InvalidRequest, raise_shortage
from files import publish

_UNFIT = re.compile(r"[^\w.-]+")
_FILE_URL = re.compile(r"file:(?://(?:localhost)?)?(/(?!/)[^?#]*).*", re.IGNORECASE | re.DOTALL)
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def to_read(given: str, name: str) -> Path:
    """An existing file. A path is absolute, or begins with ~; file: URLs are taken. Raises `InvalidRequest`."""
    path = absolute(given, name)
    if _can(path.is_dir):
        raise InvalidRequest(f"The argument {name} names a folder: give the path of a file.", param=name)
    if not _can(path.is_file):
        raise InvalidRequest(f"There is no file {path}: give the absolute path of one on this computer.", param=name)
    _check_readable(path, name)
    return path


def _check_readable(path: Path, name: str) -> None:
    """By opening it: what a path says of itself isn't what macOS lets a program do."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise_shortage(error)
        raise InvalidRequest(f"{path} can't be read by this service: {mac_files.reason(error)}.", param=name) from error
    try:
        if mac_files.is_in_cloud(os.fstat(descriptor)):
            raise InvalidRequest(f"{path} can't be read now: {mac_files.IN_THE_CLOUD}.", param=name)
    finally:
        os.close(descriptor)


def to_write(given: str, name: str, suffix: str) -> Path:
    """A file that isn't there yet, in a folder that is and can be written: this is tried, for the result may take an
    hour. Raises `InvalidRequest`."""
    path = absolute(given, name)
    if path.suffix.lower() != suffix:
        raise InvalidRequest(f"The argument {name} must end in {suffix}, as the format does.", param=name)
    if not _can(path.parent.is_dir):
        raise InvalidRequest(f"There is no folder {path.parent}: make it first, or name another one.", param=name)
    try:
        if path.exists():
            raise InvalidRequest(f"{path} exists, and nothing is overwritten: give another name.", param=name)
        with publish.opened(path.parent) as folder:
            publish.check_writable(folder)
    except OSError as error:
        raise _unwritable(path, error, name) from error
    return path


def create(path: Path, data: bytes) -> Path:
    """Write a file whose name is free, or else the same name with a number. Whole, or not there at all."""
    try:
        with publish.opened(path.parent) as folder:
            return path.with_name(publish.write_new(folder, publish.numbered(path.name), data))
    except OSError as error:
        raise _unwritable(path, error, "output_path") from error
    except publish.NamesTaken:
        raise names_taken(path.name) from None


def names_taken(name: str) -> InvalidRequest:
    return InvalidRequest(f"{name} and {publish.MOST_NUMBERS} names like it are taken.", param="output_path")


def _unwritable(path: Path, error: OSError, name: str) -> InvalidRequest:
    return InvalidRequest(f"The result can't be written into {path.parent}: {mac_files.reason(error)}.", param=name)


def _can(asks: Callable[[], bool]) -> bool:
    """What a path says of itself; no, for one that no file can have."""
    try:
        return asks()
    except (OSError, ValueError):
        return False


def slug(text: str, longest: int = 40) -> str:
    """A file's name from the beginning of a text, in any script."""
    return _UNFIT.sub("-", text)[:longest].strip("-.") or "untitled"


def absolute(given: str, name: str) -> Path:
    """The path that is meant, by its spelling alone. Raises `InvalidRequest` for what is no absolute path."""
    if url := _FILE_URL.fullmatch(given):
        given = unquote(url[1])
    elif _URL.match(given):
        raise InvalidRequest(f"The argument {name} must be a path on this computer, not a URL.", param=name)
    path = Path(given)
    with suppress(RuntimeError):  # there is no such user
        path = path.expanduser() if given.startswith("~") else path
    if "\0" in given or not path.is_absolute():
        raise InvalidRequest(
            f"The argument {name} must be an absolute path, such as /Users/me/{slug(given)}.", param=name
        )
    return path
