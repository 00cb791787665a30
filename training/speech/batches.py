"""Which recordings are learnt from next: by their number of words, in batches of about one length."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from training.speech import shards
from training.speech.examples import RecordedUtterance, answer_length
from training.speech.forward import CHUNK
from training.speech.shards import CorpusUtterance

MOST_CHUNKS = 16
CHUNKS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, MOST_CHUNKS)  # recordings are padded to so many
KINDS = ((1, 1), (2, 2), (3, 6), (7, 99), (0, 0))  # fewest and most words


def joined(several: list[RecordedUtterance]) -> RecordedUtterance:
    """One after another; all in one language."""
    words, starts, before = [], [], 0
    for one in several:
        words += one.utterance.words
        starts += [before + start for start in one.utterance.starts[:-1]]
        end = before + one.utterance.starts[-1]
        before += len(one.features)
    features = np.concatenate([one.features for one in several])
    return RecordedUtterance(
        CorpusUtterance(several[0].utterance.language, words, len(features), [*starts, end]), features
    )


@dataclass
class Corpus:
    """The shards in a folder, as they appear: recordings by kind and language, in mapped memory."""

    folder: Path
    pools: list[dict[str, list[RecordedUtterance]]] = field(default_factory=lambda: [{} for _ in KINDS])
    count: int = 0
    _seen: set[str] = field(default_factory=set)

    def refresh(self) -> None:
        """Takes in what was finished since."""
        for path in sorted(self.folder.glob("training-*.json")):
            if path.stem in self._seen:
                continue
            self._seen.add(path.stem)
            for utterance, features in shards.read(self.folder, path.stem):
                if len(features) <= MOST_CHUNKS * CHUNK:
                    count = len(utterance.words)
                    kind = next(n for n, (fewest, most) in enumerate(KINDS) if fewest <= count <= most)
                    self.pools[kind].setdefault(utterance.language, []).append(RecordedUtterance(utterance, features))
                    self.count += 1

    def one(self, draw: random.Random, kind: int) -> RecordedUtterance:
        pools = self.pools[kind]
        names = list(pools)
        (name,) = draw.choices(names, [len(pools[name]) for name in names])
        return draw.choice(pools[name])

    def several(self, draw: random.Random, most: int) -> list[RecordedUtterance]:
        """Of up to six words each, in one language, from two on, as many as fit."""
        made = [self.one(draw, draw.randrange(3))]
        frames = len(made[0].features)
        for _ in range(most - 1):
            other = draw.choice(self.pools[draw.randrange(3)][made[0].utterance.language])
            frames += len(other.features)
            if frames > MOST_CHUNKS * CHUNK:
                break
            made.append(other)
        return made


@dataclass(frozen=True)
class Diet:
    """Shares of recordings of each of `KINDS`, and of several that are joined."""

    kinds: tuple[float, ...]
    joined: float


def batches(
    corpus: Corpus,
    assemble: Callable[[list[RecordedUtterance], int, int], Any],
    diet: Callable[[], Diet],
    rows: Callable[[int], int],
    seed: int,
) -> Iterator[tuple[int, Any]]:
    """Without an end: how many rows, and what `assemble` makes of them; `rows` says how many of so many chunks, `diet`
    is asked for each recording."""
    draw = random.Random(seed)
    waiting: dict[int, list[RecordedUtterance]] = {chunks: [] for chunks in CHUNKS}
    while True:
        wanted = diet()
        choice = draw.choices(range(len(KINDS) + 1), [*wanted.kinds, wanted.joined])[0]
        if choice == len(KINDS):
            one = joined(corpus.several(draw, 4))
        else:
            one = corpus.one(draw, choice)
        chunks = next(n for n in CHUNKS if n * CHUNK >= len(one.features))
        if len(one.utterance.words) > answer_length(chunks) - 4:
            continue
        waiting[chunks].append(one)
        if len(waiting[chunks]) == rows(chunks):
            group, waiting[chunks] = waiting[chunks], []
            yield len(group), assemble(group, chunks, draw.getrandbits(32))
