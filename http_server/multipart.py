"""multipart/form-data as it arrives: `FormParts` is the protocol without sockets or files, `receive` spools to a
folder.

A file is never whole in memory, and the name that a client gives it is never used.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Set
from io import FileIO
from pathlib import Path
from typing import Literal

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from engines.types.errors import InvalidRequest

MOST_PARTS = 1000
LONGEST_TEXTS = 1 << 20  # bytes of all fields that are no files, together
BLOCK = 256 << 10  # bytes written at a time
LONGEST_PATH = 1000
# What is sent for a file by who forgets curl's @: a path, or a name with an ending.
_PATH = re.compile(rb"(?:[/~]|\.{1,2}/|file:)[^\x00-\x1f]{1,900}|[^\x00-\x1f]{1,200}\.[a-zA-Z0-9]{2,5}")


class Began(msgspec.Struct, frozen=True):
    """A part begins. `named` says that it has a file's name, whatever that is."""

    name: str
    named: bool


class PartData(msgspec.Struct, frozen=True):
    """More of the part that began last."""

    data: bytes


class PartEnded(msgspec.Struct, frozen=True):
    """The part that began last is whole."""


PartEvent = Began | PartData | PartEnded


class FormParts:
    """Bytes in, parts out. Raises `InvalidRequest` for what is no form."""

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data":
            raise InvalidRequest('The body must be multipart/form-data: curl -F "file=@recording.wav" -F "model=NAME".')
        if not options.get(b"boundary"):
            raise InvalidRequest("The Content-Type of the body names no boundary; leave that header to the client.")
        self._events: list[PartEvent] = []
        self._headers: dict[bytes, bytes] = {}
        self._field = self._value = b""
        self._whole = False
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._headers.clear,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": lambda data, start, end: self._events.append(PartData(data[start:end])),
                    "on_part_end": lambda: self._events.append(PartEnded()),
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise _broken(str(error)) from error

    def feed(self, data: bytes) -> list[PartEvent]:
        """What these bytes complete, in order."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _broken(str(error)) from error
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """Say that there are no more bytes. Raises where the form isn't whole."""
        if not self._whole:
            raise _broken("it ends before its last boundary")

    def _on_end(self) -> None:
        self._whole = True

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if not options.get(b"name"):
            raise _broken("a part has no name")
        name = options[b"name"].decode("utf-8", "replace")
        encoding = self._headers.get(b"content-transfer-encoding", b"binary").strip().lower()
        if encoding not in (b"binary", b"8bit", b"7bit"):
            raise InvalidRequest(f"{name} must be sent as it is, without a Content-Transfer-Encoding.", param=name)
        self._events.append(Began(name, b"filename" in options))


class Upload(msgspec.Struct, frozen=True):
    """A file that was received, `size` in bytes."""

    path: str
    size: int


class Form(msgspec.Struct, frozen=True):
    """Texts by name, in their order; the files that were asked for; and names of other files, which are gone."""

    texts: dict[str, list[str]]
    files: dict[str, Upload] = {}
    strays: tuple[str, ...] = ()


async def receive(content_type: str, body: AsyncIterator[bytes], folder: Path, files: Set[str]) -> Form:
    """The form, its `files` in the folder. A part of such a name is a file, even if it is sent without a file's name.

    Raises `InvalidRequest` for a broken form, texts that are too long, a file that is empty or sent twice.
    """
    parts = FormParts(content_type)
    receiver = _Receiver(folder, files)
    try:
        async for chunk in body:
            for event in parts.feed(chunk):
                await receiver.take(event)
        parts.close()
    finally:
        await receiver.close()
    return receiver.form


class _Receiver:
    """Puts parts where they belong: texts in memory, files on the disk, strays nowhere."""

    def __init__(self, folder: Path, files: Set[str]) -> None:
        self.form = Form({}, {}, ())
        self._folder = folder
        self._files = files
        self._parts = 0
        self._left = LONGEST_TEXTS
        self._now = Began("", False)
        self._kind: Literal["text", "file", "stray"] = "text"
        self._text = bytearray()
        self._spool: _Spool | None = None

    async def take(self, event: PartEvent) -> None:
        match event:
            case Began():
                await self._begin(event)
            case PartData() if self._spool:
                await self._spool.write(event.data)
            case PartData() if self._kind == "text":
                self._add(event.data)
            case PartEnded() if self._spool:
                await self._keep(self._spool)
            case PartEnded() if self._kind == "text":
                self.form.texts.setdefault(self._now.name, []).append(_decoded(self._text, self._now.name))

    async def close(self) -> None:
        if self._spool:
            await self._spool.close()

    async def _begin(self, began: Began) -> None:
        self._now, self._text = began, bytearray()
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise InvalidRequest(f"The form has more than {MOST_PARTS} parts.")
        self._kind = "file" if began.name in self._files else "stray" if began.named else "text"
        if self._kind == "stray":
            self.form = msgspec.structs.replace(self.form, strays=(*self.form.strays, began.name))
        if self._kind == "file":
            if began.name in self.form.files:
                raise InvalidRequest(f"{began.name} is sent twice: send one file a request.", param=began.name)
            self._spool = await _Spool.open(self._folder / str(self._parts))

    def _add(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            name = self._now.name
            raise InvalidRequest(f"{name} is too long: the texts of a form have {LONGEST_TEXTS} bytes.", param=name)
        self._text += data

    async def _keep(self, spool: "_Spool") -> None:
        self._spool = None
        name = self._now.name
        self.form.files[name] = Upload(str(spool.path), await spool.finish())
        if not self.form.files[name].size:
            raise InvalidRequest(f"{name} is empty: send the file itself, as in curl -F {name}=@NAME.", param=name)
        if not self._now.named and _PATH.fullmatch(spool.head):
            raise InvalidRequest(
                f"{name} is the text {spool.head.decode(errors='replace')!r} and no file: send the file itself, as in "
                f"curl -F {name}=@NAME, with the @.",
                param=name,
            )


class _Spool:
    """A file that is written in threads, a block at a time."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path = path
        self.head = b""  # the first of it, once it is whole
        self._file = file
        self._block = bytearray()
        self._size = 0

    @classmethod
    async def open(cls, path: Path) -> "_Spool":
        return cls(path, await asyncio.to_thread(FileIO, path, "x"))

    async def write(self, data: bytes) -> None:
        self._block += data
        if len(self._block) >= BLOCK:
            await self._flush()

    async def finish(self) -> int:
        """Write what is left, close, and tell the size."""
        try:
            await self._flush()
        finally:
            await self.close()
        return self._size

    async def close(self) -> None:
        await asyncio.to_thread(self._file.close)

    async def _flush(self) -> None:
        block, self._block = self._block, bytearray()
        self.head = self.head or bytes(block[: LONGEST_PATH + 1])
        self._size += len(block)
        await asyncio.to_thread(_write, self._file, block)


def _write(file: FileIO, data: bytearray) -> None:
    """All of it; unbuffered, so that a full disk shows here and not when the file is closed."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _decoded(text: bytes | bytearray, name: str) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"{name} must be text in UTF-8.", param=name) from None


def _broken(why: str) -> InvalidRequest:
    return InvalidRequest(f"The body is no whole multipart form: {why}.")
