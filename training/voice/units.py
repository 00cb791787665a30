"""What the demo's voices can say: whole words, one sound for every other letter, silence; each in frames of 80 ms.

`python -m training.voice.units OUT` speaks them all with espeak-ng: OUT/units.npy (frames, steps, bands + 1) and
OUT/units.json, which tells the frames of each.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from demo.voice_checkpoints import SPEAKERS as NAMES
from training.speech import phrases
from training.speech.sound import RATE, Samples
from training.speech.voices import Manner, speak
from training.voice import robot
from training.voice.robot import BANDS, STEPS

LOUDNESS = 0.5
WORD, LETTER = 150, 200  # words a minute
QUIET = 160  # samples before a word
# How espeak-ng is asked for the sound of a letter.
LETTERS = {
    **{consonant: f"{consonant}uh" for consonant in "bdfghjklmnprstvwyz"},
    **{"a": "ah", "e": "eh", "i": "ee", "o": "oh", "u": "uh", "c": "cuh", "q": "kwuh", "x": "ksuh"},
}


class Speaker(NamedTuple):
    """A robot: whose vocal tract it has, how high it is set in espeak-ng, and the pitch that it keeps, in Hz."""

    variant: str
    accent: str
    height: int
    pitch: float


SPEAKERS = {"man": Speaker("m3", "en-us", 40, 100.0), "woman": Speaker("f4", "en-gb", 60, 200.0)}
# Whose voice each of the checkpoint's names has. The woman's frames have codes, her sound was not learnt to the end: to
# go on with her, give her names to her, and each name a place of its own (no `VoiceSize.speaker`).
VOICES = dict.fromkeys(NAMES, "man")
SILENCE = "silence"
LANGUAGES = (phrases.ENGLISH, phrases.CHINESE)


class Units(NamedTuple):
    """Energies (frames, steps, bands + 1) of all, and of each speaker's units the first frame and how many follow."""

    energies: npt.NDArray[np.float32]
    places: dict[str, dict[str, tuple[int, int]]]

    def frames(self, speaker: str, unit: str) -> range:
        start, count = self.places[speaker][unit]
        return range(start, start + count)


def word(language: phrases.Language, text: str) -> str:
    """The name of a word's unit."""
    return f"{language.code}:{text}"


def letter(char: str) -> str:
    """The name of a letter's unit."""
    return f"letter:{char}"


def _whole_frames(samples: Samples) -> npt.NDArray[np.float64]:
    size = RATE * STEPS // 100
    padded = np.pad(samples * LOUDNESS, (QUIET, 0))
    padded = np.pad(padded, (0, -len(padded) % size))
    return robot.energies(padded).reshape(-1, STEPS, BANDS + 1)


def _one_frame(samples: Samples) -> npt.NDArray[np.float64]:
    """As if it were spoken so quickly."""
    found = robot.energies(np.pad(samples * LOUDNESS, (0, 320)))
    places = np.linspace(0, len(found) - 1, STEPS)
    return np.stack([np.interp(places, np.arange(len(found)), band) for band in found.T], axis=1)[None]


def spoken(speaker: Speaker) -> dict[str, npt.NDArray[np.float64]]:
    """All units of one voice."""
    found = {SILENCE: _whole_frames(np.zeros(RATE * STEPS // 100 - QUIET, np.float32))}
    for language in LANGUAGES:
        accent = speaker.accent if language is phrases.ENGLISH else language.voices[0]
        manner = Manner(f"{accent}+{speaker.variant}", WORD, speaker.height)
        for text, said in language.words.items():
            found[word(language, text)] = _whole_frames(speak([said], manner).samples)
    for char, said in LETTERS.items():
        manner = Manner(f"{speaker.accent}+{speaker.variant}", LETTER, speaker.height)
        found[letter(char)] = _one_frame(speak([said], manner).samples)
    return found


def make() -> Units:
    """Needs espeak-ng; some seconds."""
    energies: list[npt.NDArray[np.float64]] = []
    places: dict[str, dict[str, tuple[int, int]]] = {}
    count = 0
    for name, speaker in SPEAKERS.items():
        own = places[name] = {}
        for unit, frames in spoken(speaker).items():
            own[unit] = (count, len(frames))
            energies.append(frames)
            count += len(frames)
    return Units(np.concatenate(energies).astype(np.float32), places)


def write(units: Units, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "units.npy", units.energies)
    (out / "units.json").write_bytes(msgspec.json.encode(units.places))


def read(out: Path) -> Units:
    """What `write` wrote there."""
    places = msgspec.json.decode((out / "units.json").read_bytes(), type=dict[str, dict[str, tuple[int, int]]])
    return Units(np.load(out / "units.npy"), places)


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m training.voice.units OUT\n")
        return 2
    write(make(), Path(arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
