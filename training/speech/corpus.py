"""`python -m training.speech.corpus OUT [SHARDS]`: speaks the corpus with espeak-ng, a minute or two of work.

OUT/test.* hold samples of recordings by voices that are never trained on, OUT/training-N.* the features of a thousand
recordings, (frames, bins) in half precision, as `training.speech.shards` has them. Every shard is a small corpus:
training may begin with the first. What is there already is kept: to make a corpus anew, name another folder.
"""

import training.quick_blas  # noqa: F401  # one thread a process: more stand in each other's way

# isort: split
import os
import random
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from transformers import WhisperFeatureExtractor

from demo.speech_checkpoints import MELS
from training.speech import phrases, shards, sound, voices
from training.speech.phrases import Language
from training.speech.shards import CorpusUtterance
from training.speech.sound import Samples
from training.speech.voices import HELD_OUT, Manner, manner, script, speak, varied_manner

SHARES = {"English": 0.5, "Chinese": 0.25, "Cantonese": 0.25}
SHARDS = 40
UTTERANCES, RECORDINGS = 500, 2  # of a shard; and of an utterance
# How many of a hundred utterances are of each kind.
SINGLES, PAIRS, FEW, LONG, NONE = 22, 16, 34, 25, 3
TEST_SEEDS = 1_000_000
TRAINING_SEEDS = 10_000_000


Kind = Callable[[random.Random, Language], list[str]]


def single(draw: random.Random, language: Language) -> list[str]:
    return phrases.any_words(draw, language, 1)


def pair(draw: random.Random, language: Language) -> list[str]:
    return phrases.any_words(draw, language, 2)


def few(draw: random.Random, language: Language) -> list[str]:
    return phrases.any_words(draw, language, draw.randint(3, 6))


def short(draw: random.Random, language: Language) -> list[str]:
    return phrases.any_words(draw, language, draw.randint(1, 4))


def long(draw: random.Random, language: Language) -> list[str]:
    """5 to 22 words in any order, or sentences of this product's world."""
    most = draw.randint(5, 22)
    return phrases.sentences(draw, language, most) if draw.random() < 0.7 else phrases.any_words(draw, language, most)


def long_in_any_order(draw: random.Random, language: Language) -> list[str]:
    """As `long`, but more often in any order: which words follow is not to be guessed."""
    most = draw.randint(5, 22)
    return phrases.sentences(draw, language, most) if draw.random() < 0.45 else phrases.any_words(draw, language, most)


def recipe(shard: int) -> list[tuple[Kind | None, int]]:
    """Kinds with seeds."""
    kinds: list[Kind | None] = [single, pair, few, long_in_any_order, None]
    drawn = random.Random(f"shard {shard}").choices(kinds, [SINGLES, PAIRS, FEW, LONG, NONE], k=UTTERANCES)
    return [(kind, TRAINING_SEEDS + shard * UTTERANCES + place) for place, kind in enumerate(drawn)]


def testing() -> list[tuple[Kind | None, int]]:
    """160 short ones a language and more, apart from all seeds of training."""
    counted: list[tuple[Kind | None, int]] = [(short, 480), (long, 120), (None, 40)]
    kinds = [kind for kind, count in counted for _ in range(count)]
    return [(kind, TEST_SEEDS + seed) for seed, kind in enumerate(kinds)]


def spoken(
    kind: Kind,
    seed: int,
    language: Language | None = None,
    how: Callable[[random.Random, Language], Manner] = varied_manner,
) -> tuple[CorpusUtterance, Samples]:
    """Clean, without silence around; `starts` of the utterance are in samples."""
    draw = random.Random(f"utterance {seed}")
    chosen = phrases.NAMED[draw.choices(list(SHARES), list(SHARES.values()))[0]]
    language = language or chosen
    words = kind(draw, language)
    made = speak(script(draw, language, words), how(draw, language))
    return CorpusUtterance(language.name, words, starts=[*made.starts, len(made.samples)]), made.samples


def by_strangers(draw: random.Random, language: Language) -> Manner:
    """By a voice that is never trained on."""
    return manner(draw, language, HELD_OUT)


@cache
def mel_filters() -> npt.NDArray[np.float64]:
    """(frequencies, bins), as serving has them."""
    extractor = WhisperFeatureExtractor(feature_size=MELS)  # type: ignore[no-untyped-call]
    return np.asarray(extractor.mel_filters)


def trained_on(kind: Kind | None, seed: int) -> Iterator[tuple[CorpusUtterance, npt.NDArray[np.float16]]]:
    """The recordings of one utterance."""
    utterance, clean = spoken(kind, seed) if kind else (CorpusUtterance(phrases.NOTHING, []), None)
    for copy in range(RECORDINGS):
        draw = np.random.default_rng([seed, copy])
        starts: list[int] = []
        if clean is None:
            samples = sound.nothing_spoken(draw)
        else:
            made = sound.as_recorded(draw, clean)
            samples = made.samples
            starts = [round((made.before + start * made.stretch) / sound.HOP) for start in utterance.starts]
        features = sound.log_mel(samples, mel_filters()).T
        yield CorpusUtterance(utterance.language, utterance.words, len(features), starts), features.astype(np.float16)


def tested_on(task: tuple[Kind | None, int]) -> tuple[CorpusUtterance, Samples]:
    """Every second recording is clean but for a little silence around; the others are as in training."""
    kind, seed = task
    draw = np.random.default_rng(seed)
    if kind is None:
        utterance, samples = CorpusUtterance(phrases.NOTHING, []), sound.nothing_spoken(draw)
    else:
        utterance, clean = spoken(kind, seed, phrases.LANGUAGES[seed % 3], by_strangers)
        around = (int(draw.uniform(0, 0.4) * sound.RATE), int(draw.uniform(0.1, 0.4) * sound.RATE))
        samples = np.pad(clean, around) * 0.5 if seed // 3 % 2 else sound.as_recorded(draw, clean).samples
    return CorpusUtterance(utterance.language, utterance.words, len(samples)), samples.astype(np.float32)


def build_shard(out: Path, shard: int) -> None:
    name = f"training-{shard}"
    if not shards.is_whole(out, name):
        shards.write(out, name, [one for kind, seed in recipe(shard) for one in trained_on(kind, seed)])


def build_test(out: Path) -> None:
    if not shards.is_whole(out, "test"):
        shards.write(out, "test", [tested_on(task) for task in testing()])


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    if len(arguments) not in (1, 2):
        sys.stderr.write("usage: python -m training.speech.corpus OUT [SHARDS]\n")
        return 2
    out, count = Path(arguments[0]), int(arguments[1]) if len(arguments) == 2 else SHARDS
    out.mkdir(parents=True, exist_ok=True)
    voices.invent_variants(out / "voices")
    with ProcessPoolExecutor(os.cpu_count() or 2) as processes:
        work = [processes.submit(build_test, out)]
        work += [processes.submit(build_shard, out, shard) for shard in range(count)]
        for one in work:
            one.result()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
