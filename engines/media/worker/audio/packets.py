"""A track's packets, decoded: frames with their times, and what was lost in front of them."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from engines.media.worker.audio.extent import is_partial
from engines.media.worker.audio.holes import adts_frame
from engines.media.worker.source import Source

TIMED = ("mov", "matroska", "ogg", "flac", "mpegts", "mpeg", "asf", "flv", "nut", "mxf")  # their frames have true times
MOST_FAILURES = 1000  # of reading on, one behind the other: in a page of Ogg without a time, each packet is one
UNREAD_SECONDS = 0.02  # for what can't even be read as a packet
MOST_LOST = 600.0  # seconds at a time, where that is estimated
PAUSE_BYTES = 2  # a packet of Opus that says no more than that it is quiet for a while
STEADY = ("ac3", "dts")  # formats whose packets are all of a size
TAGS = (b"ID3", b"APETAGEX", b"TAG", b"LYRICSBEGIN", b"Xing", b"Info", b"VBRI")  # in packets that are no sound


class Step(NamedTuple):
    """A frame. `lost` is how many seconds of sound in front of it couldn't be decoded, or weren't there, by estimate.

    `paused`: the encoder said in front of it that there is silence. `before` and `at` are offsets in the file, of its
    packet and of the last one that isn't at the same: in Ogg, offsets are those of pages.
    """

    frame: AudioFrame
    time: float | None
    lost: float
    paused: bool
    before: int
    at: int


class Packets:
    """To be iterated once; the counts are true after it."""

    def __init__(self, source: Source, container: InputContainer, track: AudioStream, format: str) -> None:
        self._source = source
        self._container = container
        self._track = track
        self._format = format
        self._is_opus = track.codec_context.name == "opus"
        self._good_bytes = self._good_seconds = self._pending = 0.0
        # By how much the library's offsets in an ADTS file are too small; None where nobody knows any more.
        self._shift: int | None = 0 if format == "aac" else None
        self._heard = False
        self._size = 0  # of the last packet
        self.lost = self.lost_at_end = 0  # packets that can't be decoded
        self.broken = False
        self.last_lost = False

    def steps(self, check: Callable[[], None]) -> Iterator[Step]:
        """All that can be decoded. `check` is called in front of each packet."""
        before = at = 0
        paused = False
        for packet in self._packets(check):
            self._pending += self._skipped(packet)
            try:
                frames = packet.decode()
            except MemoryError:
                raise
            except (av.FFmpegError, ValueError):
                self._lose(packet)
                continue
            if packet.size:
                self.last_lost = self._is_partial(packet)
            if packet.pos is not None and packet.pos != at:
                before, at = at, packet.pos
            for frame in frames:
                yield Step(frame, self._time(frame), self._pending if self._heard else 0.0, paused, before, at)
                self._heard, self._pending, self.lost_at_end = True, 0.0, 0
                self._good_seconds += frame.samples / frame.sample_rate
            self._good_bytes += packet.size
            paused = self._is_opus and packet.size <= PAUSE_BYTES

    def _is_partial(self, packet: "Packet[AudioStream]") -> bool:
        """Whether a packet should be longer, as the last one is of a file that is cut off."""
        before, self._size = self._size, packet.size
        if self._format in STEADY:
            return packet.size < 0.9 * before
        return self._format == "mp3" and is_partial(bytes(packet)[:4], packet.size)

    def _packets(self, check: Callable[[], None]) -> "Iterator[Packet[AudioStream]]":
        """Reads on behind what can't be read, as long as anything comes of it."""
        failures = 0
        packets = self._container.demux(self._track)
        while failures < MOST_FAILURES:
            check()
            try:
                packet = next(packets, None)
            except MemoryError:
                raise
            except (av.FFmpegError, ValueError, OSError, IndexError):  # the last: for a track that appears late
                failures += 1
                self._pending += UNREAD_SECONDS
                self.broken = True
                packets = self._container.demux(self._track)
                continue
            if packet is None:
                return
            if packet.size:
                failures, self.broken = 0, False
            yield packet

    def _lose(self, packet: "Packet[AudioStream]") -> None:
        self.last_lost = True
        content = bytes(packet)
        if not self._heard or any(tag in content for tag in TAGS):
            return
        self.lost += 1
        self.lost_at_end += 1
        seconds = float(packet.duration * packet.time_base) if packet.duration and packet.time_base else 0.0
        if self._good_bytes:
            seconds = max(seconds, packet.size * self._good_seconds / self._good_bytes)
        self._pending = min(self._pending + seconds, MOST_LOST)

    def _skipped(self, packet: "Packet[AudioStream]") -> float:
        """Seconds that lie in bytes in front of this frame of ADTS which the library has passed over."""
        if self._shift is None or packet.pos is None or not packet.size:
            return 0.0
        expected = packet.pos + self._shift
        found = adts_frame(self._source.peek, expected, packet.size)
        skipped = 0 if found is None else found - expected
        self._shift = None if found is None else self._shift + skipped
        if not skipped or not self._good_bytes or any(tag in self._source.peek(expected, skipped) for tag in TAGS):
            return 0.0
        return min(skipped * self._good_seconds / self._good_bytes, MOST_LOST)

    def _time(self, frame: AudioFrame) -> float | None:
        base = frame.time_base or self._track.time_base
        if self._format not in TIMED or frame.pts is None or base is None:
            return None
        return float(frame.pts * base)
