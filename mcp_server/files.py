"""Paths that a client gives → files: what it may read, and where a result goes. Nothing is ever overwritten."""

import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from engines.errors import InvalidRequest

MOST_NUMBERS = 1000
_UNFIT = re.compile(r"[^\w.-]+")


def to_read(given: str, name: str) -> Path:
    """An existing file. A path is absolute, or begins with ~; file: URLs are taken. Raises `InvalidRequest`."""
    path = _absolute(given, name)
    if path.is_dir():
        raise InvalidRequest(f"The argument {name} names a folder: give the path of a file.", param=name)
    if not path.is_file():
        raise InvalidRequest(f"There is no file {path}: give the absolute path of one on this computer.", param=name)
    if not os.access(path, os.R_OK):
        raise InvalidRequest(f"{path} can't be read by this service: check its permissions.", param=name)
    return path


def to_write(given: str, name: str, suffix: str) -> Path:
    """A file that isn't there yet, in a folder that is. Raises `InvalidRequest`."""
    path = _absolute(given, name)
    if path.suffix.lower() != suffix:
        raise InvalidRequest(f"The argument {name} must end in {suffix}, as the format does.", param=name)
    if not path.parent.is_dir():
        raise InvalidRequest(f"There is no folder {path.parent}: make it first, or name another one.", param=name)
    if path.exists():
        raise InvalidRequest(f"{path} exists, and nothing is overwritten: give another name.", param=name)
    return path


def create(path: Path, data: bytes) -> Path:
    """Write a file whose name is free, or else the same name with a number. Whole, or not there at all."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        for candidate in _candidates(path):
            if _published(partial, candidate):
                return candidate
    except OSError as error:
        message = f"The result can't be written into {path.parent}: {error.strerror}."
        raise InvalidRequest(message, param="output_path") from error
    finally:
        partial.unlink(missing_ok=True)
    raise InvalidRequest(
        f"{path.name} and {MOST_NUMBERS} names like it are taken in {path.parent}.", param="output_path"
    )


def slug(text: str, longest: int = 40) -> str:
    """A file's name from the beginning of a text, in any script."""
    return _UNFIT.sub("-", text)[:longest].strip("-.") or "untitled"


def _published(partial: Path, target: Path) -> bool:
    """Give a finished file its name; False if the name is taken. Unlike a rename, neither way here overwrites."""
    try:
        os.link(partial, target)
    except FileExistsError:
        return False
    except OSError:  # a disk without hard links
        try:
            with target.open("xb") as file:
                file.write(partial.read_bytes())
        except FileExistsError:
            return False
    return True


def _candidates(path: Path) -> Iterator[Path]:
    yield path
    for number in range(2, MOST_NUMBERS + 2):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


def _absolute(given: str, name: str) -> Path:
    url = urlsplit(given)
    if url.scheme == "file":
        given = unquote(url.path)
    elif len(url.scheme) > 1 and "://" in given:
        raise InvalidRequest(f"The argument {name} must be a path on this computer, not a URL.", param=name)
    path = Path(given).expanduser() if given.startswith("~") else Path(given)
    if "\0" in given or not path.is_absolute():
        raise InvalidRequest(
            f"The argument {name} must be an absolute path, such as /Users/me/{slug(given)}.", param=name
        )
    return path
