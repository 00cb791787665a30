"""How Qwen3-ASR's encoder counts: frames of sound, tokens of a prompt, and stretches that hear nothing of each other.

Convolutions see a second at a time, attention a window of seconds: so sound is encoded in stretches of one window, with
the same result as all at once, and at a cost that grows with its length and not with its square.
"""

import msgspec

from engines.runner.generation.content import ContentSpan, Features, digest_of

FRAMES, TOKENS = 100, 13  # a second


class Stretch(msgspec.Struct, frozen=True):
    """Frames from `begin` to `end`, and the number of the first of the tokens that they become."""

    begin: int
    end: int

    @property
    def first(self) -> int:
        return tokens_of(self.begin)

    @property
    def tokens(self) -> int:
        return tokens_of(self.end) - self.first


def tokens_of(frames: int) -> int:
    """How many tokens so many frames become: three convolutions halve what is left over after whole seconds."""
    rest = frames % FRAMES
    for _ in range(3):
        rest = (rest + 1) // 2
    return frames // FRAMES * TOKENS + rest


def sound_span(frames: Features, begin: int) -> ContentSpan:
    """A log-mel spectrogram [frames, bins] whose tokens stand in a prompt from position `begin` on."""
    return ContentSpan(begin, begin + tokens_of(len(frames)), frames, digest_of(frames))


def stretches(frames: int, window: int) -> list[Stretch]:
    """All frames in stretches of `window`, a multiple of a second.

    A rest of less than a second goes with the stretch before it: the encoder widens what it gets to whole seconds
    unless that is all there is, and sound that is widened has other values at its end.
    """
    begins = [*range(0, frames, window)]
    if len(begins) > 1 and frames - begins[-1] < FRAMES:
        begins.pop()
    return [Stretch(begin, end) for begin, end in zip(begins, [*begins[1:], frames], strict=True)]
