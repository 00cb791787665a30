"""How pieces of sound become one: alike in level, without clicks, with a pause between them. Pure.

Sound is float32 in `array("f")`; the server has no numpy, and a second of sound costs it 2 to 3 ms here.
"""

from array import array
from operator import mul
from typing import TypeAlias

from engines.types.audio import VOICE_RATE

Sound: TypeAlias = "array[float]"  # not at runtime: Python 3.11 can't say it

FADE = VOICE_RATE * 6 // 1000  # samples: longer than a click, shorter than a consonant
BLOCK = VOICE_RATE // 20
QUIET = 0.1  # of the loudest block: pauses don't count for the level
LARGEST_GAIN = 2.0
CEILING = 0.98


def level(sound: Sound) -> float:
    """The root mean square of what is spoken, without pauses; 0 for silence."""
    blocks = [sound[start : start + BLOCK] for start in range(0, len(sound), BLOCK)]
    powers = [sum(map(mul, block, block)) / len(block) for block in blocks]
    loudest = max(powers, default=0.0)
    spoken = [power for power in powers if power > loudest * QUIET**2]
    return float(sum(spoken) / len(spoken)) ** 0.5 if spoken else 0.0


def loudest(sound: Sound) -> float:
    return max(max(sound), -min(sound)) if sound else 0.0


def gain(own: float, wanted: float, peak: float) -> float:
    """By what sound of a level is to be multiplied for another one; it neither clips nor changes out of recognition."""
    if own <= 0 or wanted <= 0:
        return 1.0
    most = CEILING / peak if peak > 0 else LARGEST_GAIN
    return min(max(wanted / own, 1 / LARGEST_GAIN), LARGEST_GAIN, max(most, 1 / LARGEST_GAIN))


def scaled(sound: Sound, factor: float) -> Sound:
    return sound if factor == 1 else array("f", [factor * sample for sample in sound])


def fade_in(sound: Sound) -> Sound:
    """From silence, over the first `FADE` samples."""
    size = min(FADE, len(sound))
    return array("f", [sample * place / size for place, sample in enumerate(sound[:size])]) + sound[size:]


def fade_out(sound: Sound) -> Sound:
    """To silence, over the last `FADE` samples."""
    return fade_in(sound[::-1])[::-1]


def silence(seconds: float) -> bytes:
    return bytes(4 * round(seconds * VOICE_RATE))


def fitted(sound: Sound, wanted: float) -> bytes:
    """A whole piece at a level (0: its own), ready to stand between pauses."""
    own = level(sound)
    return fade_out(fade_in(scaled(sound, gain(own, wanted, loudest(sound))))).tobytes()


class Running:
    """A piece that is sent while it is made: at its own level, with the end held back that will be faded out."""

    def __init__(self) -> None:
        self._held = array("f")
        self._begun = False

    def add(self, sound: Sound) -> bytes:
        self._held += sound
        ready, self._held = self._held[:-FADE], self._held[-FADE:]
        if self._begun or not ready:
            return ready.tobytes()
        self._begun = True
        return fade_in(ready).tobytes()

    def end(self) -> bytes:
        return fade_out(self._held).tobytes()
