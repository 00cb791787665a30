"""Recordings made for a test, and how long one is."""

import array
import math
import random
import wave
from pathlib import Path

import av

RATE = 16_000


def beeps(path: Path, minutes: float, dense: bool = True) -> Path:
    """Half a second of a wavering tone, then as much silence; where it isn't dense, half a minute of silence."""
    draw = random.Random(7)
    pause = bytes(2 * (RATE // 2 if dense else 30 * RATE))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        while file.tell() < minutes * 60 * RATE:
            pitch, sweep = draw.uniform(150, 600), draw.uniform(0.5, 2.0)
            tone = (math.sin(2 * math.pi * pitch * (1 + sweep * t / RATE) * t / RATE) for t in range(RATE // 2))
            file.writeframes(array.array("h", (int(9000 * one) for one in tone)).tobytes() + pause)
    return path


def seconds_of(path: Path) -> float:
    """By decoding it."""
    with av.open(str(path)) as opened:
        return sum(frame.samples / frame.sample_rate for frame in opened.decode(audio=0))
