"""A file of a stranger's, opened so that it is only ever read as a recording, by its content, and nothing beside it."""

import os
import stat
from typing import NoReturn

import av
from av.audio.stream import AudioStream
from av.container import InputContainer

from engines.errors import InvalidRequest

# Formats that name other files or addresses (playlists, concat, DASH, SDP) are not among them, and neither are any that
# nobody records speech in.
DEMUXERS = ("wav", "w64", "aiff", "caf", "au", "mp3", "aac", "flac", "ogg", "matroska", "mov", "amr")
CODECS = (
    *("pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be"),
    *("pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be", "pcm_alaw", "pcm_mulaw"),
    *("adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt", "gsm_ms"),
    *("mp3float", "mp3", "mp2float", "mp2", "mp1float", "aac", "alac", "flac", "vorbis", "opus"),
    *("ac3", "eac3", "amrnb", "amrwb"),
)
RATES = range(1_000, 768_001)
MAX_CHANNELS = 64
BUFFER_BYTES = 1 << 16
ID3_HEADER = 10
MOST_TAGS = 4

KINDS = "wav, mp3, m4a, mp4, mov, flac, ogg, webm, mkv, aac, aiff"


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
        raise refused(
            f"The file can't be read as a recording: it is damaged, isn't complete, or is of another kind than {KINDS}."
        ) from None


def _nothing_else(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise PermissionError("a recording may not name other files")


def audio_track(container: InputContainer) -> AudioStream:
    """The track to listen to, checked; `InvalidRequest` if there is none that can be decoded."""
    tracks = container.streams.audio
    if not tracks:
        raise refused("The file has no audio track.")
    readable = [track for track in tracks if track.codec_context is not None and track.codec_context.name in CODECS]
    if not readable:
        raise refused("The sound in the file is encoded in a way that can't be read. Convert it to wav, mp3 or m4a.")
    best = container.streams.best("audio")
    track = next((track for track in readable if best is not None and track.index == best.index), readable[0])
    track.codec_context.thread_count = 1
    check_parameters(track.codec_context.sample_rate, len(track.codec_context.layout.channels))
    return track


def check_parameters(rate: int, channels: int) -> None:
    """Raises for what no recording has, and what would cost memory or time out of proportion; 0 is not known yet."""
    if rate and rate not in RATES:
        raise refused(f"The recording has {rate} samples a second; {RATES[0]} to {RATES[-1]} can be read.")
    if channels > MAX_CHANNELS:
        raise refused(f"The recording has {channels} channels; at most {MAX_CHANNELS} can be read.")
