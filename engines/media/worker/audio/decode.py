"""The sound of a file as float32 at one rate: block by block, so that its length costs no memory."""

from collections.abc import Callable, Iterator
from itertools import chain, pairwise

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from engines.media.worker.audio.clock import LONGEST_GAP, LOST_SECONDS, Clock, GapLimits, Gaps, Moment, Span
from engines.media.worker.audio.extent import is_cut, mp3_size
from engines.media.worker.audio.holes import lost_pages
from engines.media.worker.audio.mix import Channels, Mix, Samples
from engines.media.worker.audio.packets import TIMED, Packets, Step
from engines.media.worker.audio.resample import Resampler
from engines.media.worker.audio.tracks import candidates, opened
from engines.media.worker.source import Source, open_container, refused
from engines.types.errors import InvalidRequest

Check = Callable[[float, float | None], None]

LATE_SECONDS = 0.25  # a recording may be shorter by this much than its header says
FORGIVEN = 2  # frames that can't be decoded: after a seek or a splice there are a few
FORGIVEN_SECONDS = 0.15
PAUSE_SECONDS = 1.0  # for which an encoder of Opus leaves packets out in silence, at most
PAGE_SECONDS = 20.0  # more than a page of Ogg holds
USUAL_PAGE_SECONDS = 1.0
SURE = ("wav", "mov", "matroska")  # whose header can be believed, if there are about as many bytes
JOINED = 1 << 16  # bytes behind an MP3 that are no tag any more
LEAST_BYTES = 250  # a second
NUMBERED = ("flac",)  # whose frames count the samples before them
EXACT = ("flac", "aiff", "caf", "au", "w64", "tta", "ape", "tak")  # formats whose header counts the samples
DAMAGE_SHOWS_AT_THE_END = ("flac", "aac", "mp3", "ac3", "eac3", "dts", "amr")
ALMOST_EXACT = ("flv",)  # whose header says how long it is, to half a second


class Recording:
    """One file's sound. `blocks` is to be iterated once; `seconds`, `cut` and so on are true after it.

    Samples that aren't numbers are silence, and others are kept within -1 and 1. Where times of frames leave room, as
    for a track that begins later than its film, there is silence, so that what follows is at its true time.
    """

    def __init__(
        self, path: str, rate: int, limit: float, check: Check, channel: int | None = None, track: int | None = None
    ) -> None:
        """`check` is called all the time with the seconds done and their total; it ends everything by raising.

        `channel` counts from 1; None mixes all. `track` counts the audio tracks from 1; None takes the best.
        """
        self._channel = channel
        self._rate = rate
        self._limit = limit
        self._check = check
        self._given = 0  # samples
        self._gaps = Gaps()
        self._source = Source(path)
        try:
            self._container = open_container(self._source)
            self.track, *self.others = candidates(self._container, track)  # `others` are worth a try as well
            self.tracks = len(self._container.streams.audio)
            self._track = opened(self._container, self.track)
            self._format = self._container.format.name.split(",")[0]
            self._packets = Packets(self._source, self._container, self._track, self._format)
            self._exact = self._format in EXACT or (self._format == "mp3" and self._tells_length())
            self.total = _duration(self._container, self._track)
            sure = self._exact or (self._format in SURE and self._source.size > LEAST_BYTES * (self.total or 0))
            if self.total is not None and sure and self.total > limit + 1:
                raise self._too_long()
        except BaseException:
            self.close()
            raise

    @property
    def seconds(self) -> float:
        return self._given / self._rate

    @property
    def gaps(self) -> tuple[Span, ...]:
        """Where sound is missing within the recording: there is silence instead, if it is known how long."""
        spans = self._gaps.spans
        few = self._packets.lost <= FORGIVEN and sum(end - start for start, end in spans) < FORGIVEN_SECONDS
        return () if few else spans

    @property
    def cut(self) -> bool:
        """Whether the file ends too early; what could be decoded was given."""
        # What an MP3 lacks is missing where it is damaged, if it is.
        tells = self._exact or self._format in ALMOST_EXACT
        missing = (self.total or 0.0) - self.seconds if tells and not self._gaps.spans else 0.0
        return (
            self._packets.broken
            or (self._packets.last_lost and self._format in DAMAGE_SHOWS_AT_THE_END)
            or self._packets.lost_at_end > FORGIVEN
            or missing > (LATE_SECONDS if self._exact else 2 * LATE_SECONDS)
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
        clock = self._clock()
        for step, after in _with_next(self._packets.steps(lambda: self._check(self.seconds, self.total))):
            self._check_channel(step.frame)
            gap, is_loss = self._gap(clock, step, after)
            if gap:
                yield from self._counted(resampler.flush())
                if is_loss:
                    self._gaps.add(self.seconds, self.seconds + gap)
                yield from self._counted(self._silence(gap))
            yield from self._counted(resampler.feed(step.frame))
        yield from self._counted(resampler.flush())
        if not self._given:
            raise refused("The file holds no sound.")

    def _clock(self) -> Clock | None:
        if self._format not in TIMED:
            return None
        origin = (self._container.start_time or 0) / av.time_base
        latest = self._container.duration / av.time_base if self._container.duration else LONGEST_GAP
        return Clock(origin, latest, LOST_SECONDS) if self._format in NUMBERED else Clock(origin, latest)

    def _gap(self, clock: Clock | None, step: Step, after: Step | None) -> tuple[float, bool]:
        """Seconds of silence in front of a frame, and whether they are loss."""
        if clock is None:
            return step.lost, step.lost > 0
        now, then = _moment(step), None if after is None else _moment(after)
        gap, jumps = clock.gap(now, then, step.lost > 0, lambda: self._room(step))
        is_pause = step.paused and gap < PAUSE_SECONDS and self._format != "ogg"
        return gap, jumps and (step.lost > 0 or not is_pause)

    def _check_channel(self, first: AudioFrame) -> None:
        count = len(first.layout.channels)
        if self._channel is not None and not self._given and not 1 <= self._channel <= count:
            there = "one channel" if count == 1 else f"{count} channels"
            message = f"There is no channel {self._channel}: the recording has {there}, counted from 1."
            raise InvalidRequest(message, param="channels")

    def _room(self, step: Step) -> GapLimits:
        """How long the silence may be that belongs in front of a late frame."""
        if self._format != "ogg":
            return GapLimits(LONGEST_GAP, 0.0)
        pages = max(step.lost > 0, lost_pages(self._source.peek, step.before, step.at))
        return GapLimits(PAGE_SECONDS * pages, USUAL_PAGE_SECONDS * pages)

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

    def _tells_length(self) -> bool:
        """Whether an MP3 says how long it is, in its first frame, and isn't joined from several that do."""
        first = self._source.peek(0, 4096)
        told = mp3_size(first) or self._source.size
        return self._source.size <= told + JOINED and any(mark in first for mark in (b"Xing", b"Info", b"VBRI"))

    def _too_long(self) -> Exception:
        longest = f"{self._limit / 3600:g} hours" if self._limit >= 7200 else f"{self._limit:g} seconds"
        return refused(f"The recording is longer than {longest}, which is the limit. Split it, or cut it shorter.")


def _with_next(steps: Iterator[Step]) -> Iterator[tuple[Step, Step | None]]:
    """Each with the one behind it."""
    for step, after in pairwise(chain(steps, (None,))):
        if step is not None:
            yield step, after


def _moment(step: Step) -> Moment:
    return Moment(step.time, step.frame.samples / step.frame.sample_rate)


def _chosen(channels: Channels, number: int) -> Samples:
    """One of them; silence where the recording has fewer for a while."""
    return channels[number - 1] if number <= len(channels) else np.zeros(channels.shape[1], np.float32)


def _duration(container: InputContainer, track: AudioStream) -> float | None:
    """What the file says, in seconds, with what is before the track begins."""
    if track.duration and track.time_base:
        late = float((track.start_time or 0) * track.time_base) - (container.start_time or 0) / av.time_base
        return float(track.duration * track.time_base) + max(0.0, late)
    return container.duration / av.time_base if container.duration else None
