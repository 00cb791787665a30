"""Whisper's forward for many recordings at once, on the library's own modules; and what it is to write of them."""

import random
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from training.speech import phrases
from training.speech.examples import (
    Array,
    RecordedUtterance,
    SoundBatch,
    answer_length,
    heard_classes,
    sound,
    word_classes,
)
from training.speech.forward import CHUNK, gelu
from training.speech.shards import CorpusUtterance

CODES = {language.name: language.code for language in phrases.LANGUAGES}
WINDOW = 3000  # frames: what it listens to at once
FRAMES_PER_STEP = 2  # of the encoder's positions and of its times
LAST_FIRST_TIME = 50  # steps; a text that begins later is not allowed at the start
WHOLE_WINDOWS = 0.3
WITHOUT_TIMES = 0.15
LANGUAGE_WEIGHT, TIME_WEIGHT = 0.4, 0.2
FLOOR = 2.0  # below the loudest: silence is as quiet as that
OPENING = 3  # marks before the text: start, language, task


class WhisperBatch(NamedTuple):
    """`ids` (rows, tokens) are followed by `targets`, which count `weights`. `classes` (rows, positions): of the word
    that is heard there, 0 for none, -1 beyond the recording. Ids are numbers of known tokens."""

    sound: SoundBatch
    ids: Array
    targets: Array
    weights: Array
    classes: Array


@dataclass
class WhisperWriter:
    """What is said as tokens, which are numbered without the ids that have none."""

    tokenizer: Tokenizer
    known: npt.NDArray[np.int64]
    classes: dict[tuple[str, str], int] = field(default_factory=word_classes)
    _numbers: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        every = {identity: number for number, identity in enumerate(self.known.tolist())}
        self._numbers = {text: every[identity] for text, identity in self.tokenizer.get_vocab().items()}
        spoken = [(one, word) for one in phrases.LANGUAGES for word in one.words]
        self._words = {(one.name, word): self._one(one.blank + word, every) for one, word in spoken}

    def _one(self, text: str, every: dict[int, int]) -> int:
        (only,) = self.tokenizer.encode(text).ids
        return every[only]

    def mark(self, name: str) -> int:
        return self._numbers[f"<|{name}|>"]

    def time(self, frame: float) -> int:
        return self.mark("0.00") + round(frame / FRAMES_PER_STEP)

    def row(self, draw: random.Random, utterance: CorpusUtterance) -> tuple[list[int], list[float]]:
        """All tokens, and what each counts."""
        start, task, end = self.mark("startoftranscript"), self.mark("transcribe"), self.mark("endoftext")
        if not utterance.words:
            code = draw.choice(list(CODES.values()))
            return [start, self.mark(code), task, self.mark("0.00"), end], [0.0, 0.0, 0.0, 1.0, 0.3]
        language = self.mark(CODES[utterance.language])
        words = [self._words[utterance.language, word] for word in utterance.words]
        if draw.random() < WITHOUT_TIMES:
            tokens = [start, language, task, self.mark("notimestamps"), *words, end]
            return tokens, [0.0, LANGUAGE_WEIGHT, 0.0, 0.0] + [1.0] * (len(words) + 1)
        first, last = self.time(utterance.starts[0]), self.time(utterance.starts[-1])
        first = min(first, self.mark("0.00") + LAST_FIRST_TIME)
        tokens = [start, language, task, first, *words, max(first, last), end]
        weights = [0.0, LANGUAGE_WEIGHT, 0.0, TIME_WEIGHT] + [1.0] * len(words) + [TIME_WEIGHT, 1.0]
        return tokens, weights

    def __call__(self, group: list[RecordedUtterance], chunks: int, seed: int) -> WhisperBatch:
        """Padded on the right; some in a whole window, as serving has them, others in one of the recordings' length."""
        draw = random.Random(seed)
        frames = WINDOW if draw.random() < WHOLE_WINDOWS else (chunks + 1) * CHUNK
        length = OPENING + 3 + answer_length(chunks)
        ids, targets = np.full((2, len(group), length), self.mark("endoftext"), np.int32)
        weights = np.zeros((len(group), length), np.float32)
        for row, one in enumerate(group):
            tokens, counted = self.row(draw, one.utterance)
            ids[row, : len(tokens) - 1] = tokens[:-1]
            targets[row, : len(tokens) - 1] = tokens[1:]
            weights[row, : len(tokens) - 1] = counted[1:]
            if not one.utterance.words:
                targets[row, 0], weights[row, 0] = self.mark("nospeech"), 1.0
        heard = sound(group, frames, np.random.default_rng(seed))
        centres = np.arange(frames // FRAMES_PER_STEP) * FRAMES_PER_STEP
        classes = heard_classes(self.classes, group, centres, heard.sizes // FRAMES_PER_STEP)
        return WhisperBatch(heard, ids, targets, weights, classes)


def silenced(frames: mx.array, sizes: mx.array) -> mx.array:
    """(rows, frames, bins): beyond the end of each it is as quiet as can be."""
    real = (mx.arange(frames.shape[1]) < sizes[:, None])[..., None]
    loudest = mx.where(real, frames, -9.0).max(axis=(1, 2), keepdims=True)
    return mx.where(real, frames, loudest - FLOOR)


def encode(encoder: Any, frames: mx.array) -> mx.array:
    """(rows, frames / 2, state) of (rows, frames, bins), which may be fewer than a whole window."""
    x: Any = gelu(_convolve(frames, encoder.conv1, 1))
    x = gelu(_convolve(x, encoder.conv2, 2))
    x = x + encoder._positional_embedding[: x.shape[1]]
    for block in encoder.blocks:
        x = _block(block, x, None, None)
    result: mx.array = encoder.ln_post(x)
    return result


def decode(decoder: Any, table: mx.array, ids: mx.array, heard: mx.array) -> mx.array:
    """Logits (rows, tokens, known tokens) of what follows each."""
    x: Any = table[ids] + decoder.positional_embedding[: ids.shape[1]]
    for block in decoder.blocks:
        x = _block(block, x, heard, "causal")
    result: mx.array = decoder.ln(x) @ table.T
    return result


def _convolve(x: mx.array, convolution: Any, stride: int) -> mx.array:
    """Over three neighbours, as one product of matrices."""
    padded, length = mx.pad(x, [(0, 0), (1, 1), (0, 0)]), x.shape[1]
    near = mx.concatenate([padded[:, start : start + length : stride] for start in range(3)], axis=-1)
    weight = convolution.weight
    result: mx.array = near @ weight.reshape(weight.shape[0], -1).T + convolution.bias
    return result


def _block(block: Any, x: mx.array, heard: mx.array | None, mask: str | None) -> mx.array:
    y = block.attn_ln(x)
    x = x + _attend(block.attn, y, y, mask)
    if heard is not None:
        x = x + _attend(block.cross_attn, block.cross_attn_ln(x), heard, None)
    result: mx.array = x + block.mlp2(gelu(block.mlp1(block.mlp_ln(x))))
    return result


def _attend(attention: Any, x: mx.array, other: mx.array, mask: str | None) -> mx.array:
    queries, keys, values = (
        project(y).reshape(*y.shape[:2], attention.n_head, -1).transpose(0, 2, 1, 3)
        for project, y in ((attention.query, x), (attention.key, other), (attention.value, other))
    )
    scale = queries.shape[-1] ** -0.5
    mixed = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=mask)
    result: mx.array = attention.out(mixed.transpose(0, 2, 1, 3).reshape(x.shape))
    return result
