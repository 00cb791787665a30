"""`python -m training.speech.train CORPUS OUT MINUTES`: trains the demo's Qwen3-ASR checkpoint.

CORPUS is what `training.speech.corpus` made, or is still making. Into OUT go qwen3-asr.safetensors and
qwen3-asr.tokenizer.json, as `demo/weights` holds them: every two minutes, and last.
"""

import training.quick_blas  # noqa: F401

# isort: split
import importlib
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_map_with_path
from mlx_audio.stt.models.qwen3_asr.config import ModelConfig
from mlx_audio.stt.models.qwen3_asr.qwen3_asr import Qwen3ASRModel

from demo import speech_checkpoints
from demo.checkpoints import TransformerSize
from demo.speech_checkpoints import HEAD, TRAINED_LANGUAGES, TRAINED_THETA, EncoderSize
from training.speech import phrases
from training.speech.batches import Diet
from training.speech.course import Course, Plan, on_a_gpu, wait_for, wanted
from training.speech.examples import AsrBatch, AsrWriter, RecordedUtterance, row_length, word_classes
from training.speech.forward import decode, encode
from training.speech.learning import keep, shown, unchanged, weighed
from training.speech.shards import CorpusUtterance
from training.speech.trial import Trial, told

nn: Any = importlib.import_module("mlx.nn")  # half typed

EAR = EncoderSize(layers=4, width=192, heads=6, inner=512, channels=24)
TEXT = TransformerSize(3, hidden=192, intermediate=448, heads=6, kv_heads=3, head_dim=HEAD, rope_theta=TRAINED_THETA)
HEARING = 0.3  # how much it counts to know each word in the audio, beside writing them
RATE = 2e-3
# First which sound is which word, then the order of more.
DIETS = (
    (0.08, Diet((0.50, 0.20, 0.25, 0.00, 0.05), 0.00)),
    (0.45, Diet((0.10, 0.14, 0.40, 0.17, 0.04), 0.15)),
    (1.00, Diet((0.10, 0.12, 0.36, 0.25, 0.04), 0.13)),
)
GPU_TOKENS, CPU_TOKENS = 24_000, 1200


class AsrLearner(nn.Module):  # type: ignore[misc]
    """The model and what only its training needs: classes of words at each audio position, and the blank.

    A word with a blank before it is embedded as the word plus the blank, so that what one learns the other knows.
    """

    def __init__(self, asr: Any, classes: int, alone: mx.array, spaced: mx.array) -> None:
        super().__init__()
        self.asr = asr
        self.classifier = nn.Linear(asr.config.text_config.hidden_size, classes)
        self.blank = mx.zeros((asr.config.text_config.hidden_size,))
        self._alone, self._spaced = alone, spaced

    def table(self) -> mx.array:
        """(tokens, width): the embeddings, and the head."""
        own = self.asr.model.embed_tokens.weight
        table: mx.array = own[self._alone] + self._spaced * self.blank
        return table

    def logits(self, heard: mx.array, ids: mx.array, sources: mx.array, places: mx.array) -> mx.array:
        """(rows, places, tokens) for what follows each of `places`, after `heard` (rows, positions, width)."""
        table = self.table()
        rows = mx.arange(heard.shape[0])[:, None]
        audio = heard[rows, mx.maximum(sources, 0)]
        x = mx.where(sources[..., None] < 0, table[ids], audio)
        logits: mx.array = decode(self.asr.model, x)[rows, places] @ table.T
        return logits

    def loss(self, given: AsrBatch) -> tuple[mx.array, mx.array, mx.array]:
        """The sum, cross entropy of the answers, and that of the words in the audio."""
        heard = encode(self.asr.audio_tower, shown(given.sound), given.lengths)
        logits = self.logits(heard, given.ids, given.sources, given.places)
        writing = weighed(logits, given.targets, given.weights)
        known = given.classes >= 0
        hearing = weighed(self.classifier(heard), mx.maximum(given.classes, 0), known)
        return writing + HEARING * hearing, writing, hearing


class Qwen3Asr:
    """The subject of the course."""

    def __init__(self, corpus: Path, out: Path, every: int) -> None:
        self._out = out
        self._tokenizer = speech_checkpoints.speech_tokenizer(phrases.spellings(), TRAINED_LANGUAGES)
        self._writer = AsrWriter(self._tokenizer)
        self.learner = new_learner(self._tokenizer)
        self._trial = Trial.read(corpus, every)

    def assemble(self, group: list[RecordedUtterance], chunks: int, seed: int) -> AsrBatch:
        return self._writer(group, chunks, seed)

    def loss(self, batch: AsrBatch) -> Sequence[mx.array]:
        return self.learner.loss(batch)

    def try_out(self) -> str:
        return told(self._trial, self._write)

    def _write(self, features: list[np.ndarray[Any, Any]], chunks: int) -> list[tuple[str, str]]:
        return written(self.learner, self._writer, features, chunks)

    def keep(self) -> None:
        """As `demo.speech_checkpoints` reads it."""
        named = dict(cast(list[tuple[str, mx.array]], tree_flatten(self.learner.asr.parameters())))
        named["model.embed_tokens.weight"] = self.learner.table()
        keep(self._out, "qwen3-asr", named.items(), self._tokenizer)


def written(
    learner: AsrLearner, writer: AsrWriter, features: list[np.ndarray[Any, Any]], chunks: int
) -> list[tuple[str, str]]:
    """Language and text of recordings (frames, bins), by the likeliest tokens, without a cache."""
    plain = [RecordedUtterance(CorpusUtterance(phrases.NOTHING, [], len(one)), one) for one in features]
    given = writer(plain, chunks, 0)
    heard = encode(learner.asr.audio_tower, shown(unchanged(given.sound)), mx.array(given.lengths))
    ids, sources = given.ids.copy(), mx.array(given.sources)
    starts = given.places[:, 0]
    rows = np.arange(len(features))
    end = writer.tokenizer.token_to_id("<|im_end|>")
    over = np.zeros(len(features), bool)
    answers: list[list[int]] = [[] for _ in features]
    for place in range(ids.shape[1] - int(starts.max()) - 1):
        chosen = learner.logits(heard, mx.array(ids), sources, mx.array(starts + place)[:, None])[:, 0].argmax(axis=-1)
        tokens = np.array(chosen)
        ids[rows, starts + place + 1] = tokens
        for row in np.flatnonzero(~over):
            answers[row].append(int(tokens[row]))
        over |= tokens == end
        if over.all():
            break
    return [_split(writer.tokenizer.decode(answer)) for answer in answers]


def _split(answer: str) -> tuple[str, str]:
    language, _, text = answer.partition("<asr_text>")
    return language.removeprefix("language ").strip(), text


def new_learner(tokenizer: Any) -> AsrLearner:
    """With weights to begin with."""
    with tempfile.TemporaryDirectory() as name:
        speech_checkpoints.write_qwen3_asr(
            Path(name),
            tokenizer,
            TRAINED_LANGUAGES,
            ear=EAR,
            size=TEXT,
        )
        config = json.loads((Path(name) / "config.json").read_text(encoding="utf-8"))
    asr = Qwen3ASRModel(ModelConfig.from_dict(config))
    ids = tokenizer.get_vocab()
    alone, spaced = np.arange(len(ids)), np.zeros((len(ids), 1), np.float32)
    for word in phrases.spellings():
        first, (second,) = tokenizer.encode(word).ids[0], tokenizer.encode(f" {word}").ids
        alone[second], spaced[second] = first, 1.0
    mx.random.seed(3)
    asr.update(tree_map_with_path(_first, asr.parameters()))
    return AsrLearner(asr, len(word_classes()) + 1, mx.array(alone), mx.array(spaced))


def _first(name: str, array: mx.array) -> mx.array:
    if name.endswith("bias"):
        return mx.zeros(array.shape)
    if array.ndim == 1:
        return mx.full(array.shape, 1.5 if "q_norm" in name or "k_norm" in name else 1.0)
    if "embed_tokens" in name:
        return mx.random.normal(array.shape, scale=0.15)
    fan = float(np.prod(array.shape[1:]))
    small = 0.5 if any(part in name for part in ("o_proj", "down_proj", "out_proj", "fc2")) else 1.0
    gain = 2.0**0.5 if "conv2d" in name else 1.0
    return mx.random.normal(array.shape, scale=small * gain * fan**-0.5)


def rows_of(tokens: int) -> Any:
    """How many recordings of so many chunks a batch of so many tokens has."""
    return lambda chunks: max(2, tokens // row_length(chunks))


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    asked = wanted("Trains the demo's Qwen3-ASR checkpoint.", arguments)
    quick = on_a_gpu()
    size = asked.size or (GPU_TOKENS if quick else CPU_TOKENS)
    plan = Plan(asked.minutes, RATE, DIETS, threads=2 if quick else 1)
    corpus = wait_for(asked.corpus)
    Course(Qwen3Asr(asked.corpus, asked.out, 4 if quick else 16), corpus, plan, rows_of(size)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
