"""The sound of a file as float32 at one rate: block by block, so that its length costs no memory."""

from collections.abc import Callable, Iterator
from fractions import Fraction

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from engines.errors import InvalidRequest
from engines.media.extent import is_cut
from engines.media.mix import Channels, Mix, Samples
from engines.media.resample import Resampler
from engines.media.source import Source, audio_track, open_container, refused

Check = Callable[[float, float | None], None]

GAP_SECONDS = 0.15  # more than encoders' delays and rounded times make up
LONGEST_GAP = 6 * 3600.0  # times that jump further are wrong
LATE_SECONDS = 0.25  # a recording may be shorter by this much than its header says
FORGIVEN = 2  # frames that can't be decoded: after a seek or a splice there are a few
TIMED = ("mov", "matroska")  # formats whose frames have times that leave room for pauses
EXACT = ("flac", "aiff", "caf", "au", "w64")  # formats whose header counts the samples
DAMAGE_SHOWS_AT_THE_END = ("flac", "aac", "mp3")


class Recording:
    """One file's sound. `blocks` is to be iterated once; `seconds`, `cut` and so on are true after it.

    Samples that aren't numbers are silence, and others are kept within -1 and 1. Where times of frames leave room, as
    for a track that begins later than its film, there is silence, so that what follows is at its true time.
    """

    def __init__(self, path: str, rate: int, limit: float, check: Check, channel: int | None = None) -> None:
        """`check` is called all the time with the seconds done and their total; it ends everything by raising.

        `channel` counts from 1; None mixes all.
        """
        self._channel = channel
        self._rate = rate
        self._limit = limit
        self._check = check
        self._given = 0  # samples
        self._lost = 0  # packets that can't be decoded
        self._last_lost = False
        self._heard = 0  # frames
        self._broken = False
        self._source = Source(path)
        try:
            self._container = open_container(self._source)
            self._track = audio_track(self._container)
            self._format = self._container.format.name.split(",")[0]
            self._exact = self._format in EXACT or (self._format == "mp3" and self._has_count())
            self.total = _duration(self._container, self._track)
            sure = self._exact or self._format in ("wav", "ogg", *TIMED)
            if self.total is not None and sure and self.total > limit + 1:
                raise self._too_long()
        except BaseException:
            self.close()
            raise

    @property
    def seconds(self) -> float:
        return self._given / self._rate

    @property
    def cut(self) -> bool:
        """Whether the file ends too early or is damaged; what could be decoded was given."""
        missing = (self.total or 0.0) - self.seconds if self._exact else 0.0
        return (
            self._broken
            or self._lost > FORGIVEN
            or (self._last_lost and self._format in DAMAGE_SHOWS_AT_THE_END)
            or missing > LATE_SECONDS
            or is_cut(self._format, self._source.peek, self._source.size)
        )

    def close(self) -> None:
        if (container := getattr(self, "_container", None)) is not None:
            container.close()
        self._source.close()

    def blocks(self) -> Iterator[Samples]:
        """One channel, in which everybody is heard or which was chosen; at most a quarter of a second each.

        Raises `InvalidRequest` if there is no sound, more than the limit, or no such channel.
        """
        mix = Mix(self._rate)
        for channels in self.channels():
            yield mix.feed(channels) if self._channel is None else _chosen(channels, self._channel)

    def channels(self) -> Iterator[Channels]:
        """As `blocks`, but all channels, a row each. How many there are may change."""
        resampler = Resampler(self._rate)
        clock = Clock(self._container, self._track) if self._format in TIMED else None
        for frame in self._frames():
            self._check_channel(frame)
            if clock is not None and (gap := clock.gap(frame)):
                yield from self._counted(resampler.flush())
                yield from self._counted(self._silence(gap))
            yield from self._counted(resampler.feed(frame))
        yield from self._counted(resampler.flush())
        if not self._given:
            raise refused("The file holds no sound.")

    def _check_channel(self, first: AudioFrame) -> None:
        count = len(first.layout.channels)
        if self._channel is not None and not self._given and not 1 <= self._channel <= count:
            there = "one channel" if count == 1 else f"{count} channels"
            message = f"There is no channel {self._channel}: the recording has {there}, counted from 1."
            raise InvalidRequest(message, param="channels")

    def _frames(self) -> Iterator[AudioFrame]:
        """All that can be decoded; damage is counted."""
        packets = self._container.demux(self._track)
        while True:
            self._check(self.seconds, self.total)
            try:
                packet = next(packets, None)
                if packet is None:
                    return
            except MemoryError:
                raise
            except (av.FFmpegError, ValueError, OSError):
                self._broken = True
                return
            try:
                frames = packet.decode()
            except MemoryError:
                raise
            except (av.FFmpegError, ValueError):
                self._lost += self._heard > 0
                self._last_lost = True
                continue
            if packet.size:
                self._last_lost = self._format == "mp3" and is_partial(bytes(packet)[:4], packet.size)
            self._heard += len(frames)
            yield from frames

    def _counted(self, blocks: Iterator[Channels]) -> Iterator[Channels]:
        for block in blocks:
            self._given += block.shape[1]
            if self.seconds > self._limit + 0.1:
                raise self._too_long()
            yield block

    def _silence(self, seconds: float) -> Iterator[Channels]:
        left = round(seconds * self._rate)
        while left > 0:
            self._check(self.seconds, self.total)
            block = np.zeros((1, min(left, self._rate // 4)), np.float32)
            left -= block.shape[1]
            yield block

    def _has_count(self) -> bool:
        """Whether an MP3 says how long it is: in its first frame."""
        first = self._source.peek(0, 4096)
        return any(mark in first for mark in (b"Xing", b"Info", b"VBRI"))

    def _too_long(self) -> Exception:
        longest = f"{self._limit / 3600:g} hours" if self._limit >= 7200 else f"{self._limit:g} seconds"
        return refused(f"The recording is longer than {longest}, which is the limit. Split it, or cut it shorter.")


def _chosen(channels: Channels, number: int) -> Samples:
    """One of them; silence where the recording has fewer for a while."""
    return channels[number - 1] if number <= len(channels) else np.zeros(channels.shape[1], np.float32)


class Clock:
    """Times of frames against the sound so far. Times count from the beginning of the file, pictures included."""

    def __init__(self, container: InputContainer, track: AudioStream) -> None:
        self._time_base = track.time_base or Fraction(1, 1_000_000)
        self._longest = container.duration / av.time_base if container.duration else LONGEST_GAP
        self._origin = (container.start_time or 0) / av.time_base
        self._done = 0.0

    def gap(self, frame: AudioFrame) -> float:
        """Seconds of silence that belong in front of this frame; 0 for none."""
        gap = 0.0
        if frame.pts is not None:
            base = frame.time_base or self._time_base
            gap = float(frame.pts * base) - self._origin - self._done
            if not GAP_SECONDS < gap < self._longest:
                gap = 0.0
        self._done += gap + frame.samples / frame.sample_rate
        return gap


def _duration(container: InputContainer, track: AudioStream) -> float | None:
    """What the file says, in seconds, with what is before the track begins."""
    if track.duration and track.time_base:
        late = float((track.start_time or 0) * track.time_base) - (container.start_time or 0) / av.time_base
        return float(track.duration * track.time_base) + max(0.0, late)
    return container.duration / av.time_base if container.duration else None


def is_partial(header: bytes, size: int) -> bool:
    """Whether a frame of MP3, of which the first four bytes are given, should be longer than it is."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return False
    version = header[1] >> 3 & 3  # 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5
    steps = (
        (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
        if version == 3
        else (*(0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),)
    )
    bit_rate, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or bit_rate in (0, 15) or rate == 3:
        return False
    per_second = (44_100, 48_000, 32_000)[rate] >> (0 if version == 3 else 1 if version == 2 else 2)
    return size < (144_000 if version == 3 else 72_000) * steps[bit_rate] // per_second
