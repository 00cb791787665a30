"""Which files a client may name. This module alone decides it, for every tool, and for reading and writing.

Over stdio and the unix socket a client is a process of the user's: it may name what the user can (`Anything`). Over
HTTP and SSE it may be a page's script or another machine's: it names ordinary files in a few folders (`Below`), and
what is missing looks to it like what is forbidden.
"""

import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn, Protocol

from engines.host import mac_files
from engines.types.errors import InvalidRequest
from files import publish
from mcp_server import client_paths

_CHUNK = 1 << 20


class ReadableFile(NamedTuple):
    """A file to read: where it can be opened until `close`, and what its name is without the suffix."""

    path: Path
    stem: str
    temporary: bool = False

    def close(self) -> None:
        if self.temporary:
            self.path.unlink(missing_ok=True)


class Access(Protocol):
    """All of it blocks; what can't be named raises `InvalidRequest` with the argument's name."""

    def to_read(self, given: str, name: str) -> ReadableFile: ...

    def to_write(self, given: str, name: str, suffix: str) -> Path: ...

    def create(self, path: Path, data: bytes) -> Path: ...


class Anything:
    """What the user can."""

    def to_read(self, given: str, name: str) -> ReadableFile:
        path = client_paths.to_read(given, name)
        return ReadableFile(path, path.stem)

    def to_write(self, given: str, name: str, suffix: str) -> Path:
        return client_paths.to_write(given, name, suffix)

    def create(self, path: Path, data: bytes) -> Path:
        return client_paths.create(path, data)


class Below:
    """Ordinary files in some folders and those in them, by whatever spelling; nothing that a link leads to outside.

    A path is resolved, its folder found again by walking down from a root without following links, and the file opened
    from there: so a link that is put in between changes nothing. What is read later, by another process, has a name of
    its own meanwhile that nobody else knows: a hard link, or a copy where there can't be one.
    """

    def __init__(self, roots: Sequence[Path], scratch: Path, only_read: Sequence[Path] = ()) -> None:
        """`only_read` are further folders, in which nothing is written."""
        self._roots = tuple(roots)
        self._readable = (*roots, *only_read)
        self._scratch = scratch

    def to_read(self, given: str, name: str) -> ReadableFile:
        try:
            path = Path(os.path.realpath(_path(given, name), strict=True))
            folder = _walk(path.parent, self._readable)
            try:
                return ReadableFile(self._held(folder, path.name), path.stem, temporary=True)
            finally:
                os.close(folder)
        except (OSError, ValueError):
            raise _refused(name, "an ordinary file", self._readable) from None

    def to_write(self, given: str, name: str, suffix: str) -> Path:
        if not given.lower().endswith(suffix):
            raise InvalidRequest(f"The argument {name} must end in {suffix}, as the format does.", param=name)
        try:
            path = _path(given, name)
            parent = Path(os.path.realpath(path.parent, strict=True))
            folder = _walk(parent, self._roots)
        except (OSError, ValueError):
            raise _refused(name, "a new file", self._roots) from None
        try:
            if publish.exists(folder, path.name):
                raise InvalidRequest(f"{path.name} exists, and nothing is overwritten: give another name.", param=name)
            publish.check_writable(folder)
        except (OSError, ValueError) as error:
            _unwritable(error, name)
        finally:
            os.close(folder)
        return parent / path.name

    def create(self, path: Path, data: bytes) -> Path:
        """As `client_paths.create`, from the folder itself."""
        try:
            folder = _walk(path.parent, self._roots)
        except (OSError, ValueError):
            raise _refused("output_path", "a new file", self._roots) from None
        try:
            return path.with_name(publish.write_new(folder, publish.numbered(path.name), data))
        except publish.NamesTaken:
            raise client_paths.names_taken(path.name) from None
        except (OSError, ValueError) as error:
            _unwritable(error, "output_path")
        finally:
            os.close(folder)

    def _held(self, folder: int, name: str) -> Path:
        """The file under a name of its own."""
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=folder)
        try:
            status = os.fstat(opened)
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("no ordinary file")
            self._scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
            held = self._scratch / secrets.token_hex(16)
            try:
                os.link(name, held, src_dir_fd=folder, follow_symlinks=False)
                if os.path.samestat(os.lstat(held), status):
                    return held
                held.unlink()
            except OSError:
                pass  # another disk, or one without hard links
            return _copied(opened, held)
        finally:
            os.close(opened)


def _path(given: str, name: str) -> Path:
    """The path as it is spelled, `..` taken as text: what lies on the way there and back isn't looked up, nor are other
    users' homes, for whether there is one would show."""
    if given.startswith("~") and not given.startswith("~/"):
        raise ValueError("another user's")
    return Path(os.path.normpath(client_paths.absolute(given, name)))


def _walk(folder: Path, roots: Sequence[Path]) -> int:
    """A descriptor of a folder that has no links in its path, reached from the root that it is in.

    Roots are known by what they are, so that their case and spelling don't matter. Raises `OSError` or `ValueError`.
    """
    known = [(os.stat(root), root) for root in roots if root.is_dir()]
    steps: list[str] = []
    for outer in (folder, *folder.parents):
        status = os.stat(outer)
        for root_status, root in known:
            if os.path.samestat(status, root_status):
                return _down(root, steps)
        steps.insert(0, outer.name)
    raise ValueError("in none of the folders")


def _down(root: Path, steps: list[str]) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    at = os.open(root, flags)
    for step in steps:
        try:
            inner = os.open(step, flags | os.O_NOFOLLOW, dir_fd=at)
        finally:
            os.close(at)
        at = inner
    return at


def _copied(opened: int, target: Path) -> Path:
    try:
        with target.open("xb") as file:
            while data := os.read(opened, _CHUNK):
                file.write(data)
    except OSError:
        target.unlink(missing_ok=True)
        raise
    return target


def _refused(name: str, what: str, roots: Sequence[Path]) -> InvalidRequest:
    """The same sentence, whether there is nothing by that name or something that isn't to be named."""
    folders = " or ".join(str(root) for root in roots)
    return InvalidRequest(
        f"The argument {name} must name {what} in {folders}: over HTTP no others can be named (file_roots).", param=name
    )


def _unwritable(error: Exception, name: str) -> NoReturn:
    reason = mac_files.reason(error) if isinstance(error, OSError) else "no file can have that name"
    raise InvalidRequest(f"The result can't be written there: {reason}.", param=name) from error
