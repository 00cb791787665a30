"""espeak-ng's voices, and what is spoken with them. Only making a corpus needs espeak-ng."""

import ctypes
import math
import os
import random
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from training.speech.phrases import Language
from training.speech.sound import RATE, Samples, resampled

VARIANTS = tuple(
    "m1 m2 m3 m4 m5 m6 m8 f1 f2 f3 f4 Alex Andrea Andy Annie Denis Diogo Gene Gene2 Henrique Hugo Jacky Lee "
    "Marco Mario Mike Mr Nguyen RicishayMax Tweaky adam anika antonio aunty belinda benjamin boris caleb "
    "david ed edward edward2 gustave iven iven2 iven3 john kaukovalta linda marcelo max michel miguel norbert "
    "pablo paul pedro quincy rob robert sandro shelby steph2 travis victor zac".split()
)
HELD_OUT = tuple("f5 m7 Alicia Michael steph".split())
INVENTED = 200
_FAMILIES = ("gmw", "sit")  # of languages; espeak-ng lists at most 350 voices
PAUSES = 0.12

_LIBRARY = "libespeak-ng.so.1"
_SYNCHRONOUS, _UTF8, _PAUSE_AT_THE_END = 2, 1, 0x1000
_SPEED, _PITCH = 1, 3
_WORD = 1
_OWN = "demo"  # names of invented variants begin so


class Manner(NamedTuple):
    """Who speaks, and how: words a minute, and height from 0 to 99."""

    voice: str
    speed: int
    pitch: int


class Speech(NamedTuple):
    """16 kHz, and where each word begins, in samples."""

    samples: Samples
    starts: list[int]


def manner(draw: random.Random, language: Language, variants: tuple[str, ...]) -> Manner:
    return Manner(
        f"{draw.choice(language.voices)}+{draw.choice(variants)}", draw.randint(120, 215), draw.randint(25, 75)
    )


def varied_manner(draw: random.Random, language: Language) -> Manner:
    """For training: half by espeak-ng's variants, half by `invented` ones, a little slower, faster, lower or higher."""
    variant = f"{_OWN}{draw.randrange(INVENTED)}" if draw.random() < 0.5 else draw.choice(VARIANTS)
    return Manner(f"{draw.choice(language.voices)}+{variant}", draw.randint(115, 225), draw.randint(20, 80))


def invented(draw: random.Random) -> str:
    """A variant's file: another throat, mouth and temper, none of espeak-ng's own."""
    base, size = draw.uniform(70, 240), draw.uniform(0.88, 1.28)
    lines = [
        "language variant",
        f"pitch {base:.0f} {base * draw.uniform(1.1, 1.65):.0f}",
        f"flutter {draw.randint(0, 6)}",
        f"roughness {draw.choice([0, 0, 1, 2, 4])}",
        f"voicing {draw.randint(50, 160)}",
        f"consonants {draw.randint(40, 160)} {draw.randint(40, 160)}",
        f"intonation {draw.randint(1, 4)}",
    ]
    for number in range(9):
        frequency = 100 * (1 + (size - 1) * (0.5 if number == 0 else 1)) * draw.uniform(0.92, 1.08)
        absent = number >= 4 and draw.random() < 0.15
        height, width = (0, 0) if absent else (draw.randint(50, 120), draw.randint(70, 165))
        lines.append(f"formant {number} {frequency:.0f} {height} {width}")
    if draw.random() < 0.3:
        lines.append(f"echo {draw.randint(30, 150)} {draw.randint(5, 45)}")
    if draw.random() < 0.3:
        lines.append(f"breath {' '.join(str(draw.randint(0, 8)) for _ in range(8))}")
        lines.append("breathw 150 150 200 200 400 400")
    if draw.random() < 0.3:
        levels = " ".join(f"{hertz} {draw.randint(20, 255)}" for hertz in (100, 600, 1200, 2000, 3000))
        lines.append(f"tone {levels}")
    if draw.random() < 0.3:
        lines.append(f"stressAmp {' '.join(str(draw.randint(12, 26)) for _ in range(8))}")
    return "\n".join(lines) + "\n"


def script(draw: random.Random, language: Language, words: list[str]) -> list[str]:
    """What espeak-ng is to read, by words; a comma now and then makes a pause."""
    spoken = [language.words[word] for word in words]
    commas = [draw.random() < PAUSES for _ in spoken[1:]]
    return [word + "," * comma for word, comma in zip(spoken, [*commas, False], strict=True)]


def speak(parts: list[str], how: Manner) -> Speech:
    """Raises `OSError` without espeak-ng's library, `ValueError` for no voice of its, `RuntimeError` when it says
    nothing."""
    return _espeak().speak(parts, how)


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_uint64),
    )


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("unused", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


class _Espeak:
    """espeak-ng in this process: one at a time, for it has but one state."""

    def __init__(self, data: str | None) -> None:
        self._library = ctypes.CDLL(_LIBRARY)
        path = data.encode() if data else None
        self._rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, path, 0)
        if self._rate <= 0:
            raise OSError(f"espeak-ng does not start with the data in {data or 'its usual place'}")
        self._sound: list[Samples] = []
        self._words: list[tuple[int, int]] = []  # where in the text, at which sample
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
        self._kept = kind(self._hear)  # must outlive its use
        self._library.espeak_SetSynthCallback(self._kept)

    def _hear(self, wave: Any, count: int, events: Any) -> int:
        if wave and count > 0:
            self._sound.append(np.ctypeslib.as_array(wave, (count,)).astype(np.float32) / np.float32(32768))
        place = 0
        while events[place].type:
            event = events[place]
            if event.type == _WORD and event.length > 0:
                self._words.append((event.text_position - 1, event.sample))
            place += 1
        return 0

    def speak(self, parts: list[str], how: Manner) -> Speech:
        self._choose(how.voice)
        self._library.espeak_SetParameter(_SPEED, how.speed, 0)
        self._library.espeak_SetParameter(_PITCH, how.pitch, 0)
        self._sound, self._words = [], []
        text = " ".join(parts)
        content = text.encode()
        flags = _UTF8 | _PAUSE_AT_THE_END
        self._library.espeak_Synth(content, ctypes.c_size_t(len(content) + 1), 0, 1, 0, flags, None, None)
        samples = np.concatenate(self._sound) if self._sound else np.zeros(0, np.float32)
        heard = np.flatnonzero(np.abs(samples) > 1e-3)
        if not len(heard):
            raise RuntimeError(f"espeak-ng said nothing for {text!r} as {how.voice}")
        first, last = int(heard[0]), int(heard[-1]) + 1
        common = math.gcd(RATE, self._rate)
        made = resampled(samples[first:last], RATE // common, self._rate // common)
        scale = RATE / self._rate
        return Speech(made, [round(max(0, start - first) * scale) for start in self._starts(parts, last)])

    def _starts(self, parts: list[str], end: int) -> list[int]:
        """Of each word; one that espeak-ng tells nothing of begins where the next does."""
        bounds = np.cumsum([0, *(len(part) + 1 for part in parts)])
        found: dict[int, int] = {}
        for position, sample in self._words:
            word = int(np.searchsorted(bounds, position, "right")) - 1
            found.setdefault(word, sample)
        starts, following = [0] * len(parts), end
        for word in reversed(range(len(parts))):
            following = min(following, found.get(word, following))
            starts[word] = following
        return starts

    def _choose(self, voice: str) -> None:
        """By its name, else by its language, as the program does."""
        if self._library.espeak_SetVoiceByName(voice.encode()):
            wanted = _Voice(languages=voice.encode())
            if self._library.espeak_SetVoiceByProperties(ctypes.byref(wanted)):
                raise ValueError(f"espeak-ng has no voice {voice}")


@cache
def _espeak() -> _Espeak:
    return _Espeak(os.environ.get("DEMO_ESPEAK_DATA"))


def invent_variants(folder: Path) -> None:
    """Makes a copy of espeak-ng's data in `folder`, by links, with `INVENTED` variants beside its own; this process and
    those that it starts use it from then on, if they haven't spoken yet."""
    library = ctypes.CDLL(_LIBRARY)
    library.espeak_Info.restype = ctypes.c_char_p
    path = ctypes.c_char_p()
    library.espeak_Initialize(_SYNCHRONOUS, 0, os.environ.get("ESPEAK_DATA_PATH", "").encode() or None, 0)
    library.espeak_Info(ctypes.byref(path))
    library.espeak_Terminate()
    own, found = folder / "espeak-ng-data", Path((path.value or b"").decode())
    variants = own / "voices" / "!v"
    variants.mkdir(parents=True, exist_ok=True)
    (own / "lang").mkdir(exist_ok=True)
    linked = [*found.iterdir(), *(found / "voices" / "!v").iterdir(), *(found / "lang" / name for name in _FAMILIES)]
    for entry in linked:
        if not (own / entry.relative_to(found)).exists():
            (own / entry.relative_to(found)).symlink_to(entry)
    draw = random.Random(11)
    for number in range(INVENTED):
        variant, text = variants / f"{_OWN}{number}", invented(draw)
        if not variant.exists():  # another process may be speaking with it
            variant.write_text(text, encoding="utf-8")
    os.environ["DEMO_ESPEAK_DATA"] = str(folder)
