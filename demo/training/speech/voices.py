"""espeak-ng's voices, and what is spoken with them. Only making a corpus needs espeak-ng."""

import math
import random
import struct
import subprocess
from dataclasses import dataclass

import numpy as np

from demo.training.speech.phrases import Language
from demo.training.speech.sound import RATE, Samples, resampled

VARIANTS = tuple(
    "m1 m2 m3 m4 m5 m6 m8 f1 f2 f3 f4 Alex Andrea Andy Annie Denis Diogo Gene Gene2 Henrique Hugo Jacky Lee "
    "Marco Mario Mike Mr Nguyen RicishayMax Tweaky adam anika antonio aunty belinda benjamin boris caleb "
    "david ed edward edward2 gustave iven iven2 iven3 john kaukovalta linda marcelo max michel miguel norbert "
    "pablo paul pedro quincy rob robert sandro shelby steph2 travis victor zac".split()
)
HELD_OUT = tuple("f5 m7 Alicia Michael steph".split())
PAUSES = 0.12


@dataclass(frozen=True)
class Manner:
    """Who speaks, and how: words a minute, and height from 0 to 99."""

    voice: str
    speed: int
    pitch: int


def manner(draw: random.Random, language: Language, variants: tuple[str, ...]) -> Manner:
    return Manner(
        f"{draw.choice(language.voices)}+{draw.choice(variants)}", draw.randint(120, 215), draw.randint(25, 75)
    )


def script(draw: random.Random, language: Language, words: list[str]) -> str:
    """What espeak-ng is to read; a comma now and then makes a pause."""
    spoken = [language.words[word] for word in words]
    commas = [draw.random() < PAUSES for _ in spoken[1:]]
    joined = "".join(word + (", " if comma else " ") for word, comma in zip(spoken, commas, strict=False))
    return joined + spoken[-1]


def speak(text: str, how: Manner) -> Samples:
    """16 kHz. Raises `FileNotFoundError` without espeak-ng, `RuntimeError` when it says nothing."""
    command = ["espeak-ng", "-v", how.voice, "-s", str(how.speed), "-p", str(how.pitch), "--stdout", "--", text]
    sound = subprocess.run(command, capture_output=True, check=True).stdout
    rate = struct.unpack("<I", sound[24:28])[0]
    samples = np.frombuffer(sound[44:], "<i2").astype(np.float32) / np.float32(32768)
    if not samples.any():
        raise RuntimeError(f"espeak-ng said nothing for {text!r} as {how.voice}")
    common = math.gcd(RATE, rate)
    heard = np.flatnonzero(np.abs(samples) > 1e-3)
    return resampled(samples[heard[0] : heard[-1] + 1], RATE // common, rate // common)
