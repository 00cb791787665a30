"""`python -m training.speech.train_whisper CORPUS OUT MINUTES`: trains a small Whisper checkpoint.

As `training.speech.train`; into OUT go whisper.safetensors and whisper.tokenizer.json, as `demo/weights` holds
them. Ids without a token have nothing to learn and aren't kept.
"""

import training.quick_blas  # noqa: F401

# isort: split
import importlib
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_map_with_path
from mlx_audio.stt.models.whisper.whisper import Model, ModelDimensions
from tokenizers import Tokenizer

from demo.speech_checkpoints import MELS
from demo.whisper_checkpoint import WhisperSize, dimensions, known_ids, whisper_tokenizer
from training.speech import phrases
from training.speech.batches import Diet
from training.speech.course import Course, Plan, on_a_gpu, wait_for, wanted
from training.speech.examples import RecordedUtterance, SoundBatch, sound, word_classes
from training.speech.learning import keep, shown, unchanged, weighed
from training.speech.shards import CorpusUtterance
from training.speech.trial import Trial, told
from training.speech.whisper import CODES, OPENING, WINDOW, WhisperBatch, WhisperWriter, decode, encode, silenced

nn: Any = importlib.import_module("mlx.nn")  # half typed

SIZE = WhisperSize(state=96, audio_layers=2, audio_heads=3, text_layers=2, text_heads=3, bins=MELS)
ENOUGH = 10_000  # entries of a vocabulary, so that each word is whole
HEARING = 0.5  # how much it counts to know each word in the audio, beside writing them
RATE = 1.5e-3
DIETS = (
    (0.12, Diet((0.50, 0.20, 0.25, 0.00, 0.05), 0.00)),
    (0.50, Diet((0.10, 0.16, 0.45, 0.15, 0.04), 0.10)),
    (1.00, Diet((0.10, 0.14, 0.39, 0.22, 0.04), 0.11)),
)
GPU_ROWS, CPU_ROWS = 96, 8


class WhisperLearner(nn.Module):  # type: ignore[misc]
    """The model with the known tokens alone, and classes of words at each audio position.

    The other ids' logits are 0 in serving: `missing` is the logarithm of their number, one more class here.
    """

    def __init__(self, whisper: Any, classes: int, missing: int) -> None:
        super().__init__()
        self.whisper = whisper
        self.classifier = nn.Linear(whisper.dims.n_audio_state, classes)
        self._missing = math.log(missing)

    def heard(self, sound: SoundBatch) -> mx.array:
        return encode(self.whisper.encoder, silenced(shown(sound), mx.array(sound.sizes)))

    def logits(self, heard: mx.array, ids: mx.array) -> mx.array:
        """(rows, tokens, known tokens) of what follows each."""
        decoder = self.whisper.decoder
        return decode(decoder, decoder.token_embedding.weight, ids, heard)

    def loss(self, given: WhisperBatch) -> tuple[mx.array, mx.array, mx.array]:
        """The sum, cross entropy of what is written, and that of the words in the audio."""
        heard = self.heard(given.sound)
        logits = self.logits(heard, given.ids)
        missing = mx.full((*logits.shape[:2], 1), self._missing)
        writing = weighed(mx.concatenate([logits, missing], axis=-1), given.targets, given.weights)
        hearing = weighed(self.classifier(heard), mx.maximum(given.classes, 0), given.classes >= 0)
        return writing + HEARING * hearing, writing, hearing


class Whisper:
    """The subject of the course."""

    def __init__(self, corpus: Path, out: Path, every: int) -> None:
        self._out = out
        self._tokenizer = new_tokenizer()
        self._writer = WhisperWriter(self._tokenizer, known_ids(self._tokenizer))
        self.learner = new_learner(self._tokenizer)
        self._trial = Trial.read(corpus, every)

    def assemble(self, group: list[RecordedUtterance], chunks: int, seed: int) -> WhisperBatch:
        return self._writer(group, chunks, seed)

    def loss(self, batch: WhisperBatch) -> Sequence[mx.array]:
        return self.learner.loss(batch)

    def try_out(self) -> str:
        return told(self._trial, lambda features, _: written(self.learner, self._writer, features))

    def keep(self) -> None:
        write(self._out, self._tokenizer, self.learner)


def write(folder: Path, tokenizer: Tokenizer, learner: WhisperLearner) -> None:
    """As `demo.whisper_checkpoint` reads it."""
    keep(folder, "whisper", cast(list[tuple[str, mx.array]], tree_flatten(learner.whisper.parameters())), tokenizer)


def written(
    learner: WhisperLearner, writer: WhisperWriter, features: list[np.ndarray[Any, Any]]
) -> list[tuple[str, str]]:
    """Language and text of recordings (frames, bins), by the likeliest tokens, without times and without a cache."""
    plain = [RecordedUtterance(CorpusUtterance(phrases.NOTHING, [], len(one)), one) for one in features]
    heard = learner.heard(unchanged(sound(plain, WINDOW, np.random.default_rng(0))))
    end, silence = writer.mark("endoftext"), writer.mark("nospeech")
    ids = np.full((len(features), OPENING + 50), end, np.int32)
    ids[:, 0] = writer.mark("startoftranscript")
    first = np.array(learner.logits(heard, mx.array(ids[:, :1])))[:, 0]
    codes = [writer.mark(code) for code in CODES.values()]
    chosen = first[:, codes].argmax(axis=1)
    ids[:, 1], ids[:, 2] = np.array(codes)[chosen], writer.mark("transcribe")
    ids[:, 3] = writer.mark("notimestamps")
    ended = first.argmax(axis=1) == silence
    names = ["None" if none else list(CODES)[place] for place, none in zip(chosen, ended, strict=True)]
    answers: list[list[int]] = [[] for _ in features]
    for place in range(OPENING, ids.shape[1] - 1):
        tokens = np.array(learner.logits(heard, mx.array(ids[:, : place + 1]))[:, -1].argmax(axis=-1))
        ids[:, place + 1] = tokens
        ended |= tokens == end
        for row in np.flatnonzero(~ended):
            answers[row].append(int(writer.known[tokens[row]]))
        if ended.all():
            break
    texts = [writer.tokenizer.decode(answer).strip() for answer in answers]
    return list(zip(names, texts, strict=True))


def new_tokenizer() -> Tokenizer:
    """In which every word, with the blank before it where there is one, is one token."""
    words = [language.blank + word for language in phrases.LANGUAGES for word in language.words]
    return whisper_tokenizer([word for word in words for _ in range(2)], ENOUGH, multilingual=True)


def new_learner(tokenizer: Tokenizer) -> WhisperLearner:
    """With weights to begin with."""
    known = known_ids(tokenizer)
    dims = ModelDimensions.from_dict(dict(dimensions(len(known), SIZE)))
    whisper = Model(dims, mx.float32)
    mx.random.seed(4)
    whisper.update(tree_map_with_path(_first, whisper.parameters()))
    return WhisperLearner(whisper, len(word_classes()) + 1, int(known[-1]) + 1 - len(known))


def _first(name: str, array: mx.array) -> mx.array:
    if name.endswith("bias"):
        return mx.zeros(array.shape)
    if array.ndim == 1:
        return mx.ones(array.shape)
    if "embedding" in name:
        return mx.random.normal(array.shape, scale=0.05)
    small = 0.5 if name.endswith(("out.weight", "mlp2.weight")) else 1.0
    return mx.random.normal(array.shape, scale=small * float(np.prod(array.shape[1:])) ** -0.5)


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    asked = wanted("Trains a small Whisper checkpoint.", arguments)
    quick = on_a_gpu()
    size = asked.size or (GPU_ROWS if quick else CPU_ROWS)
    plan = Plan(asked.minutes, RATE, DIETS, threads=2 if quick else 1)
    corpus = wait_for(asked.corpus)
    Course(Whisper(asked.corpus, asked.out, 4 if quick else 32), corpus, plan, lambda _: size).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
