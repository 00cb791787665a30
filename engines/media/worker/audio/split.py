"""Where a recording is split into pieces, and which of it is silence. Pure: blocks of samples in, pieces out.

Levels are of frames of 20 ms, in dB of full scale. A frame is sound when it stands out from the background, which is
what the quietest of the half minute around it is like. So quiet speech in a quiet room is sound, and the hiss between
two sentences of a noisy room isn't. The bounds err towards sound, for silence that is kept costs little and speech
that is dropped is lost:

- above -40 dB nothing is silence, be the background what it may (speech on a recording of any use peaks higher);
- below -75 dB everything is: 16 bits have their last one at -90 dB, microphones and rooms are louder than that;
- in between, silence ends 6 to 9 dB above the background. The level of noise varies by 1 to 4 dB from frame to frame,
  that of speech by 15 and more.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FRAMES_PER_SECOND = 50
SEPARATING = 2 * FRAMES_PER_SECOND  # silence of this length parts two pieces
# Silence kept before and after sound: the onset of a word is weaker than its vowel, and models were trained on sound
# that goes on behind the last word; what they write in near ties depends on it.
PADDING = FRAMES_PER_SECOND // 2
HISTORY = 20 * FRAMES_PER_SECOND  # the background is judged by this much before
LOOKAHEAD = 10 * FRAMES_PER_SECOND  # and by this much after
HOP = FRAMES_PER_SECOND  # how many frames are judged at a time
SEARCH = 60 * FRAMES_PER_SECOND  # how far back from its limit a piece may be cut
LEAST_PAUSE = 5  # frames: a shorter one may be the closure of a plosive
OPENING = 20 * FRAMES_PER_SECOND  # the first piece of a recording of several, where they are at least twice as long
LONG_PAUSE = FRAMES_PER_SECOND  # a pause beyond it is no better a seam
LOWEST = -100.0
ALWAYS_SILENCE = -75.0
NEVER_SILENCE = -40.0

Samples = NDArray[np.float32]
Levels = NDArray[np.float32]
Flags = NDArray[np.bool_]


class SampleRange(NamedTuple):
    """A stretch of the recording: where it starts, counted in samples from the beginning, and its samples."""

    start: int
    samples: Samples


def levels_of(samples: Samples, frame: int) -> Levels:
    """dB of each frame of so many samples; the last frame may be shorter."""
    whole = len(samples) // frame
    power = np.empty(-(-len(samples) // frame), np.float32)
    frames = samples[: whole * frame].reshape(whole, frame)
    power[:whole] = np.einsum("ij,ij->i", frames, frames) / frame
    if whole < len(power):
        rest = samples[whole * frame :]
        power[whole] = rest @ rest / len(rest)
    return 10 * np.log10(np.maximum(power, np.float32(10 ** (LOWEST / 10))))


def background(levels: Levels) -> tuple[float, float]:
    """The level of the background, and how far the loud frames are above it."""
    low, high = len(levels) // 20, len(levels) * 9 // 10
    ordered = np.partition(levels, (low, high))
    return float(ordered[low]), float(ordered[high] - ordered[low])


def threshold(levels: Levels) -> float:
    """The level above which a frame among these is sound."""
    floor, span = background(levels)
    return min(max(floor + min(max(6.0, span / 4), 9.0), ALWAYS_SILENCE), NEVER_SILENCE)


def sound(levels: Levels, above: float) -> Flags:
    """Which frames are sound: those with at least three loud ones among the five around them, so that no click is."""
    loud = np.zeros(len(levels) + 4, np.int8)
    loud[2:-2] = levels > above
    around = loud[:-4] + loud[1:-3] + loud[2:-2] + loud[3:-1] + loud[4:]
    return around >= 3


def seam(levels: Levels) -> int:
    """The best frame to cut before: amid the longest pause, later rather than earlier, else where it is quietest."""
    floor, span = background(levels)
    quiet = np.zeros(len(levels) + 2, np.int8)
    quiet[1:-1] = levels < max(floor + max(6.0, span / 4), ALWAYS_SILENCE)
    edges = np.flatnonzero(np.diff(quiet))
    starts, ends = edges[::2], edges[1::2]
    lengths = ends - starts
    if len(levels) > lengths.max(initial=0) >= LEAST_PAUSE:
        lateness = (LONG_PAUSE // 5) * ends / len(levels)
        best = int(np.argmax(np.minimum(lengths, LONG_PAUSE) + lateness))
        return int(starts[best] + ends[best]) // 2
    around = np.convolve(10 ** (levels.astype(np.float64) / 10), np.ones(LEAST_PAUSE), "same")
    inner = around[LEAST_PAUSE // 2 : len(around) - LEAST_PAUSE // 2]
    return LEAST_PAUSE // 2 + int(np.argmin(inner)) if len(inner) else len(levels) // 2


class Activity:
    """Levels in, in any portions, which of them are sound out, later by `LOOKAHEAD`."""

    def __init__(self) -> None:
        self._levels = np.empty(0, np.float32)  # beginning with at most HISTORY frames that are judged already
        self._judged = 0

    def feed(self, levels: Levels) -> Flags:
        self._levels = np.concatenate((self._levels, levels))
        return self._judge(LOOKAHEAD)

    def finish(self) -> Flags:
        return self._judge(0)

    def _judge(self, lookahead: int) -> Flags:
        found = [np.zeros(0, np.bool_)]
        while (left := len(self._levels) - self._judged) > lookahead and (not lookahead or left >= lookahead + HOP):
            end = self._judged + min(HOP, left)
            first, last = max(0, self._judged - HISTORY), min(len(self._levels), end + LOOKAHEAD)
            above = threshold(self._levels[first:last])
            before, after = max(first, self._judged - 2), min(last, end + 2)
            flags = sound(self._levels[before:after], above)
            found.append(flags[self._judged - before : end - before])
            self._judged = end
        spare = max(0, self._judged - HISTORY)
        self._levels = self._levels[spare:].copy()
        self._judged -= spare
        return np.concatenate(found)


class Splitter:
    """Pieces of at most `longest` seconds, in order; what is silence between them is left out.

    Silence of two seconds and more parts pieces. A piece that would get too long is cut in a pause, if there is one in
    the last minute (or half) of it; the first one is cut early, so that something of a long recording is told soon. A
    piece is at least `least` seconds long, if need be by the silence around it, unless the recording has no more to
    give.

    Nothing beyond a piece and the lookahead is held, in memory that is taken once.
    """

    def __init__(self, longest: float, least: float, rate: int) -> None:
        self._frame = rate // FRAMES_PER_SECOND
        self._longest = int(longest * rate) // self._frame
        self._least = -(-int(least * rate) // self._frame)
        self._opening = OPENING if self._longest >= 2 * OPENING else self._longest  # the longest for the next cut
        self._kept = max(PADDING, self._least)
        if not (self._least <= SEPARATING and self._longest >= max(FRAMES_PER_SECOND, 4 * self._least)):
            raise ValueError(f"pieces of {least} to {longest} seconds")
        capacity = self._longest + LOOKAHEAD + 2 * HOP + 2 * self._kept + FRAMES_PER_SECOND
        self._samples = np.empty(capacity * self._frame, np.float32)
        self._levels = np.empty(capacity, np.float32)
        self._sound = np.empty(capacity, np.bool_)
        self._base = 0  # the frame with which these three begin
        self._filled = 0  # samples held
        self._measured = 0  # frames held of which the level is known
        self._flagged = 0  # frames held of which it is known whether they are sound
        self._activity = Activity()
        self._start: int | None = None  # the frame with which the open piece begins
        self._last = 0  # its last frame of sound
        self._free = 0  # the frame with which the next piece may begin

    @property
    def has_sound(self) -> bool:
        """Whether there was sound, as far as it is known yet."""
        return self._start is not None or self._free > 0

    def feed(self, block: Samples) -> list[SampleRange]:
        parts: list[SampleRange] = []
        step = FRAMES_PER_SECOND * self._frame
        for at in range(0, len(block), step):
            portion = block[at : at + step]
            self._make_room(len(portion))
            self._samples[self._filled : self._filled + len(portion)] = portion
            self._filled += len(portion)
            parts += self._decide(self._activity.feed(self._measure(self._filled // self._frame)))
        return parts

    def finish(self) -> list[SampleRange]:
        """The recording ends here."""
        flags = self._activity.feed(self._measure(-(-self._filled // self._frame)))
        parts = self._decide(np.concatenate((flags, self._activity.finish())))
        if self._start is not None:  # all of the silence at the end, which is less than what parts two pieces
            parts.append(self._close(self._start, self._base + self._flagged, self._base + self._flagged))
        return parts

    def _measure(self, upto: int) -> Levels:
        """The levels of further frames, of all that are held up to one."""
        levels = levels_of(
            self._samples[self._measured * self._frame : min(upto * self._frame, self._filled)], self._frame
        )
        self._levels[self._measured : upto] = levels
        self._measured = upto
        return levels

    def _decide(self, flags: Flags) -> list[SampleRange]:
        parts: list[SampleRange] = []
        self._sound[self._flagged : self._flagged + len(flags)] = flags
        for loud in flags.tolist():
            frame = self._base + self._flagged
            self._flagged += 1
            if loud:
                self._last = frame
                if self._start is None:
                    self._start = max(self._free, frame - PADDING)
            if self._start is None:
                continue
            if frame + 1 - self._start >= self._longest:
                parts.append(self._cut(self._start, frame + 1))
            elif frame - self._last >= SEPARATING:
                parts.append(self._close(self._start, self._last + 1 + PADDING, frame + 1))
        return parts

    def _cut(self, start: int, end: int) -> SampleRange:
        """The open piece is as long as it may be: cut it, and go on with the rest, if there is sound in it."""
        until = min(end, start + self._opening)
        first, last = until - min(SEARCH, (until - start) // 2), until - self._least
        cut = first + seam(self._levels[first - self._base : last - self._base])
        before = start + int(np.flatnonzero(self._sound[start - self._base : cut - self._base])[-1])
        after = np.flatnonzero(self._sound[cut - self._base : end - self._base])
        # Where nothing follows, what fades out behind the last sound belongs to it.
        known = cut if len(after) else end
        part = self._close(start, min(known, before + 1 + PADDING), known)
        if len(after):
            self._start = max(self._free, cut + int(after[0]) - PADDING)
        return part

    def _close(self, start: int, end: int, known: int) -> SampleRange:
        """The piece of these frames, of which those before `known` may be used to make it long enough."""
        end = min(known, max(end, start + self._least))
        start = max(self._free, min(start, end - self._least))
        self._start, self._free = None, end
        self._opening = self._longest
        first = (start - self._base) * self._frame
        last = min((end - self._base) * self._frame, self._filled)
        return SampleRange(start * self._frame, self._samples[first:last].copy())

    def _make_room(self, wanted: int) -> None:
        """Move what is still needed to the front, when the room behind it is used up."""
        if self._filled + wanted <= len(self._samples):
            return
        needed = self._start if self._start is not None else max(self._free, self._base + self._flagged - self._kept)
        gone = needed - self._base
        self._samples[: self._filled - gone * self._frame] = self._samples[gone * self._frame : self._filled]
        self._levels[: self._measured - gone] = self._levels[gone : self._measured]
        self._sound[: self._flagged - gone] = self._sound[gone : self._flagged]
        self._base = needed
        self._filled -= gone * self._frame
        self._measured -= gone
        self._flagged -= gone
