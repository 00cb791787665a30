"""A quick look, while it trains, at how well speech by voices that are never trained on is written down."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.speech import phrases, sound
from training.speech.batches import CHUNKS
from training.speech.corpus import mel_filters
from training.speech.errors import distance, words_of
from training.speech.forward import CHUNK
from training.speech.shards import CorpusUtterance, read

Features = npt.NDArray[np.float32]
Write = Callable[[list[Features], int], list[tuple[str, str]]]


@dataclass
class Trial:
    """Recordings by the number of chunks that they are padded to."""

    groups: dict[int, list[tuple[CorpusUtterance, Features]]]

    @classmethod
    def read(cls, corpus: Path, every: int) -> "Trial":
        """One of so many recordings of the test, but for the few that are too long to be trained on."""
        groups: dict[int, list[tuple[CorpusUtterance, Features]]] = {}
        for utterance, samples in list(read(corpus, "test"))[::every]:
            features = sound.log_mel(np.array(samples), mel_filters()).T
            chunks = next((n for n in CHUNKS if n * CHUNK >= len(features)), None)
            if chunks:
                groups.setdefault(chunks, []).append((utterance, features))
        return cls(groups)


def told(trial: Trial, write: Write) -> str:
    """Shares of wrong words by language, where up to four were spoken and where more were."""
    counted: dict[tuple[str, bool], list[int]] = {}
    examples: list[str] = []
    for chunks, group in trial.groups.items():
        got = write([features for _, features in group], chunks)
        for (utterance, _), (heard, text) in zip(group, got, strict=True):
            name = utterance.language
            language = phrases.NAMED.get(name)
            wanted = words_of(language.written(utterance.words), name) if language else []
            words = words_of(text, name)
            errors, total = counted.setdefault((name, len(utterance.words) > 4), [0, 0])
            wrong = distance(wanted, words)
            counted[name, len(utterance.words) > 4] = [errors + wrong, total + len(wanted)]
            if (wrong or heard != name) and len(examples) < 3:
                examples.append(f"{heard} {text!r} instead of {name} {' '.join(wanted)!r}")
    rates = [
        f"{name[:3]}{'+' * more} {100 * errors / max(1, total):.1f} % of {total}" if total else f"{name} {errors}"
        for (name, more), (errors, total) in sorted(counted.items())
    ]
    return ", ".join(rates) + "".join(f"\n        {example}" for example in examples)
