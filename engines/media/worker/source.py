"""A file of a stranger's, opened so that it is only ever read as a recording, by its content, and nothing beside it."""

import os
import stat
from typing import NoReturn

import av
from av.container import InputContainer

from engines.media.formats import CODECS, DEMUXERS, KINDS
from engines.media.worker.file_types import described
from engines.types.errors import InvalidRequest

RATES = range(1_000, 768_001)
MAX_CHANNELS = 64
BUFFER_BYTES = 1 << 16
ID3_HEADER = 10
MOST_TAGS = 4


def refused(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="file")


class Source:
    """The bytes of a regular file, without ID3 tags in front. It has no name for the library to go by.

    The tags hold pictures of megabytes, behind which the library looks for no format but MP3.
    """

    def __init__(self, path: str) -> None:
        try:
            # Not to wait for whoever might write into a pipe.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except (OSError, ValueError):
            raise refused("There is no such file, or it can't be opened.") from None
        self._descriptor = descriptor
        self._skipped = self._at = 0
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise refused("That isn't a file with a recording in it, but a folder, a pipe or a device.")
        if not status.st_size:
            self.close()
            raise refused("The file is empty.")
        for _ in range(MOST_TAGS):
            self._skipped += tag_size(self.peek(0, ID3_HEADER))
        self.size = max(0, status.st_size - self._skipped)

    def read(self, size: int) -> bytes:
        data = self.peek(self._at, size)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        if start + offset < 0:
            raise ValueError("before the beginning of the file")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def peek(self, offset: int, size: int) -> bytes:
        """Bytes anywhere in the file, fewer at its end; where it is read from next stays."""
        return os.pread(self._descriptor, size, self._skipped + offset)

    def close(self) -> None:
        os.close(self._descriptor)


def tag_size(header: bytes) -> int:
    """The bytes of an ID3v2 tag that begins with these ten; 0 if none does."""
    if len(header) < ID3_HEADER or header[:3] != b"ID3" or max(header[6:]) > 0x7F:
        return 0
    footer = ID3_HEADER if header[5] & 0x10 else 0
    return ID3_HEADER + footer + sum(byte << shift for byte, shift in zip(header[6:], (21, 14, 7, 0), strict=True))


def open_container(source: Source) -> InputContainer:
    """The file's container and what streams it has; `InvalidRequest` for all that isn't a recording."""
    options = {
        "format_whitelist": ",".join(DEMUXERS),
        "codec_whitelist": ",".join(CODECS),
        "protocol_whitelist": "none",
    }
    try:
        return av.open(
            source, mode="r", options=options, metadata_errors="ignore", buffer_size=BUFFER_BYTES, io_open=_nothing_else
        )
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError, OSError):
        raise unreadable(source) from None


def unreadable(source: Source) -> InvalidRequest:
    """Says what the file is, and what can be read."""
    what = described(source.peek, source.size)
    return refused(
        f"The file can't be read as a recording: it is {what} ({source.size:,} bytes). What can be read: {KINDS}."
    )


def _nothing_else(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise PermissionError("a recording may not name other files")


def check_parameters(rate: int, channels: int) -> None:
    """Raises for what no recording has, and what would cost memory or time out of proportion; 0 is not known yet."""
    if rate and rate not in RATES:
        raise refused(f"The recording has {rate} samples a second; {RATES[0]} to {RATES[-1]} can be read.")
    if channels > MAX_CHANNELS:
        raise refused(f"The recording has {channels} channels; at most {MAX_CHANNELS} can be read.")
