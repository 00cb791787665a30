"""`python -m demo.training.speech.corpus OUT`: speaks the corpus with espeak-ng, minutes of work.

OUT/training.npy holds the features of all recordings one after another, (frames, bins) in half precision, and
OUT/training.json what is said in each. OUT/test.npy holds samples of recordings by voices that are never trained on.
"""

import os
import random
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from transformers import WhisperFeatureExtractor

from demo.speech_checkpoints import MELS
from demo.training.speech import phrases, sound
from demo.training.speech.phrases import Language
from demo.training.speech.sound import Samples
from demo.training.speech.voices import HELD_OUT, VARIANTS, manner, script, speak

SHARES = {"English": 0.5, "Chinese": 0.25, "Cantonese": 0.25}
# How many utterances of each kind; each is recorded twice.
SINGLE, PAIRS, SHORT, LONG, EMPTY = 4000, 2500, 4500, 2200, 350
RECORDINGS = 2
GROUP = 100


class Utterance(msgspec.Struct, frozen=True):
    """What is spoken; `size` counts frames of features, or samples of sound. No words: nobody speaks."""

    language: str
    words: list[str]
    size: int = 0


Kind = Callable[[random.Random, Language], list[str]]


def single(draw: random.Random, language: Language) -> list[str]:
    return phrases.any_words(draw, language, 1)


def pair(draw: random.Random, language: Language) -> list[str]:
    return phrases.any_words(draw, language, 2)


def short(draw: random.Random, language: Language) -> list[str]:
    return phrases.any_words(draw, language, draw.randint(1, 4))


def long(draw: random.Random, language: Language) -> list[str]:
    """5 to 22 words in any order, or sentences of this product's world."""
    most = draw.randint(5, 22)
    return phrases.sentences(draw, language, most) if draw.random() < 0.7 else phrases.any_words(draw, language, most)


def training() -> list[tuple[Kind | None, int]]:
    """Kinds with seeds, in an order that every prefix of it is a small corpus."""
    counted: list[tuple[Kind | None, int]] = [
        (single, SINGLE),
        (pair, PAIRS),
        (short, SHORT),
        (long, LONG),
        (None, EMPTY),
    ]
    kinds = [kind for kind, count in counted for _ in range(count)]
    random.Random(5).shuffle(kinds)
    return [(kind, seed) for seed, kind in enumerate(kinds)]


def testing() -> list[tuple[Kind | None, int]]:
    """160 short ones a language and more, apart from all seeds of training."""
    counted: list[tuple[Kind | None, int]] = [(short, 480), (long, 120), (None, 40)]
    kinds = [kind for kind, count in counted for _ in range(count)]
    return [(kind, 1_000_000 + seed) for seed, kind in enumerate(kinds)]


def spoken(
    kind: Kind, seed: int, variants: tuple[str, ...], language: Language | None = None
) -> tuple[Utterance, Samples]:
    """Clean, without silence around."""
    draw = random.Random(f"utterance {seed}")
    chosen = phrases.NAMED[draw.choices(list(SHARES), list(SHARES.values()))[0]]
    language = language or chosen
    words = kind(draw, language)
    return Utterance(language.name, words), speak(script(draw, language, words), manner(draw, language, variants))


@cache
def mel_filters() -> npt.NDArray[np.float64]:
    """(frequencies, bins), as serving has them."""
    extractor = WhisperFeatureExtractor(feature_size=MELS)  # type: ignore[no-untyped-call]
    return np.asarray(extractor.mel_filters)


def trained_on(task: tuple[Kind | None, int]) -> list[tuple[Utterance, npt.NDArray[np.float16]]]:
    """The recordings of one utterance."""
    kind, seed = task
    utterance, clean = spoken(kind, seed, VARIANTS) if kind else (Utterance(phrases.NOTHING, []), None)
    made = []
    for copy in range(RECORDINGS):
        draw = np.random.default_rng([seed, copy])
        samples = sound.nothing_spoken(draw) if clean is None else sound.as_recorded(draw, clean)
        features = sound.log_mel(samples, mel_filters()).T
        made.append((msgspec.structs.replace(utterance, size=len(features)), features.astype(np.float16)))
    return made


def tested_on(task: tuple[Kind | None, int]) -> list[tuple[Utterance, Samples]]:
    """Every second recording is clean but for a little silence around; the others are as in training."""
    kind, seed = task
    draw = np.random.default_rng(seed)
    if kind is None:
        utterance, samples = Utterance(phrases.NOTHING, []), sound.nothing_spoken(draw)
    else:
        utterance, clean = spoken(kind, seed, HELD_OUT, phrases.LANGUAGES[seed % 3])
        around = (int(draw.uniform(0, 0.4) * sound.RATE), int(draw.uniform(0.1, 0.4) * sound.RATE))
        samples = np.pad(clean, around) * 0.5 if seed // 3 % 2 else sound.as_recorded(draw, clean)
    return [(msgspec.structs.replace(utterance, size=len(samples)), samples.astype(np.float32))]


def build(out: Path, name: str, tasks: list[tuple[Kind | None, int]], make: Callable[..., list[Any]]) -> None:
    """Both files of it."""
    out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(max(1, (os.cpu_count() or 2))) as processes:
        made = [one for several in processes.map(make, tasks, chunksize=GROUP) for one in several]
    np.save(out / f"{name}.npy", np.concatenate([array for _, array in made]))
    (out / f"{name}.json").write_bytes(msgspec.json.encode([utterance for utterance, _ in made]))


def read(out: Path, name: str) -> Iterator[tuple[Utterance, Any]]:
    """What `build` wrote there."""
    utterances = msgspec.json.decode((out / f"{name}.json").read_bytes(), type=list[Utterance])
    arrays, start = np.load(out / f"{name}.npy", mmap_mode="r"), 0
    for utterance in utterances:
        yield utterance, arrays[start : start + utterance.size]
        start += utterance.size


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m demo.training.speech.corpus OUT\n")
        return 2
    out = Path(arguments[0])
    build(out, "test", testing(), tested_on)
    build(out, "training", training(), trained_on)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
