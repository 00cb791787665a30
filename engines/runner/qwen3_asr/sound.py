"""How Qwen3-ASR's encoder counts: frames of sound, tokens of a prompt, and stretches that hear nothing of each other.

Convolutions see a second at a time, attention a window of seconds: so sound is encoded in stretches of one window, with
the same result as all at once, and at a cost that grows with its length and not with its square.
"""

import msgspec
import numpy as np
import numpy.typing as npt

FRAMES, TOKENS = 100, 13  # a second


class Sound(msgspec.Struct, frozen=True):
    """A log-mel spectrogram [frames, bins] whose tokens stand in a prompt from place `begin` on; it lasts `seconds`.

    `language` is the code that was asked for, "" when the model is to tell. `beginning` is text at the prompt's end.
    """

    frames: npt.NDArray[np.float32]
    begin: int
    seconds: float
    language: str = ""
    beginning: str = ""

    @property
    def end(self) -> int:
        """The place in the prompt behind its last token."""
        return self.begin + tokens_of(len(self.frames))


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


def stretches(frames: int, window: int) -> list[Stretch]:
    """All frames in stretches of `window`, a multiple of a second.

    A rest of less than a second goes with the stretch before it: the encoder widens what it gets to whole seconds
    unless that is all there is, and sound that is widened has other values at its end.
    """
    begins = [*range(0, frames, window)]
    if len(begins) > 1 and frames - begins[-1] < FRAMES:
        begins.pop()
    return [Stretch(begin, end) for begin, end in zip(begins, [*begins[1:], frames], strict=True)]
