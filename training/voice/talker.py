"""`python -m training.voice.talker CORPUS OUT SECONDS [ROWS]`: trains the demo's talker, text to codes.

CORPUS holds what `training.voice.units` and `codebooks` wrote. It learns for so many seconds, so many rows a step.
Into OUT go talker.npz (weights by the library's names) and qwen3-tts.tokenizer.json. Where the first is there already,
it goes on from it.
"""

import training.quick_blas  # noqa: F401

# isort: split
import importlib
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
import numpy.typing as npt
from mlx.utils import tree_map_with_path
from mlx_audio.tts.models.qwen3_tts.config import ModelConfig
from mlx_audio.tts.models.qwen3_tts.qwen3_tts import Model
from tokenizers import Tokenizer

from demo.voice_checkpoints import SPOKEN_DIALECTS, TRAINED, config, tokenizer
from training.speech.phrases import CHINESE, ENGLISH
from training.voice import codebooks, layers, texts, units
from training.voice.layers import keep_weights, know_weights
from training.voice.texts import UnitReader
from training.voice.units import VOICES, Units

nn: Any = importlib.import_module("mlx.nn")  # half typed

ENOUGH = 100_000  # entries of a vocabulary, so that each word is whole
ROWS, POOL = 48, 32  # a step, and steps that are sorted by length together
LONGEST = 150  # positions
RATE, WARM_UP = 1.5e-3, 100
MISTAKEN = 0.04  # of the frames that are seen, codes that were not made
INSTRUCTED, LANGUAGE_TOLD = 0.15, 0.4
TELL_EVERY = 100


class TalkerSequence(NamedTuple):
    """What the talker sees: ids of text and of codec tokens at each position of the prompt, -1 where there is none,
    and the frames (frames, groups) that follow."""

    text: list[int]
    codec: list[int]
    frames: npt.NDArray[np.int64]

    @property
    def places(self) -> int:
        return len(self.text) + len(self.frames)


class TalkerBatch(NamedTuple):
    """`text` and `codec` (rows, places), -1 for none; `seen` (rows, places, groups) are the frames that are fed, -1
    where none is. Of all frames to be told: the place (among all rows') whose output tells it, and its codes, with the
    end as a frame of its own whose other codes don't count."""

    text: mx.array
    codec: mx.array
    seen: mx.array
    places: mx.array
    first: mx.array
    whole: mx.array
    frames: mx.array


class TalkerWriter:
    """Prompts as the server writes them."""

    def __init__(self, words: Tokenizer, known: Units, codes: npt.NDArray[np.int64]) -> None:
        self.reader, self._known, self._codes = UnitReader(words), known, codes
        self.config = config(words, "custom_voice", "1b7", TRAINED)
        self._ids = {name: words.token_to_id(name) for name in ("<|im_start|>", "<|im_end|>")}
        self._lines = texts.lines()

    def sequence(self, text: str, speaker: str, language: str = "", instructions: str = "") -> TalkerSequence:
        own = self.config["talker_config"]
        pad, bos, eos = (self.config[f"tts_{name}_token_id"] for name in ("pad", "bos", "eos"))
        ids = self.reader.tokens(text)
        control = [own["codec_nothink_id"], own["codec_think_bos_id"], own["codec_think_eos_id"]]
        if language:
            told = own["codec_language_id"][language]
            control = [own["codec_think_id"], own["codec_think_bos_id"], told, own["codec_think_eos_id"]]
        control.append(own["spk_id"][speaker])
        start = self._ids["<|im_start|>"]
        before = [start, *self.reader.tokens("assistant\n")]
        if instructions:
            turn = [start, *self.reader.tokens("user\n"), *self.reader.tokens(instructions), self._ids["<|im_end|>"]]
            before = [*turn, *self.reader.tokens("\n"), *before]
        texts_seen = [*before, *[pad] * len(control), bos, *ids, eos, pad]
        codecs = [*[-1] * len(before), *control, *[own["codec_pad_id"]] * (len(ids) + 2), own["codec_bos_id"]]
        places = [frame for name in self.reader.units(ids) for frame in self._known.frames(VOICES[speaker], name)]
        return TalkerSequence(texts_seen, codecs, self._codes[places])

    def drawn(self, draw: random.Random) -> TalkerSequence:
        """Of any text, voice and manner; not too long."""
        while True:
            tongue = ENGLISH if draw.random() < 0.62 else CHINESE
            text = texts.draw_text(draw, tongue, self._lines)
            speaker = draw.choice(list(VOICES))
            language = ""
            if draw.random() < LANGUAGE_TOLD:
                language = tongue.name.lower() if draw.random() < 0.9 else draw.choice(("german", "french", "japanese"))
            if language in ("", "chinese"):
                language = SPOKEN_DIALECTS.get(speaker, language)
            told = texts.draw_text(draw, tongue, self._lines) if draw.random() < INSTRUCTED else ""
            made = self.sequence(text, speaker, language, told)
            if made.places < LONGEST:
                return made


def batch(group: list[TalkerSequence], end: int, mistaken: np.random.Generator | None) -> TalkerBatch:
    """Padded on the right, to a multiple of 16."""
    length = -(-max(one.places for one in group) // 16) * 16
    groups = group[0].frames.shape[1]
    text, codec = np.full((2, len(group), length), -1, np.int32)
    seen = np.full((len(group), length, groups), -1, np.int32)
    places: list[int] = []
    first: list[int] = []
    whole: list[int] = []
    frames = []
    for row, one in enumerate(group):
        size, count = len(one.text), len(one.frames)
        text[row, :size], codec[row, :size] = one.text, one.codec
        text[row, size : size + count] = one.text[-1]  # the pad that stands beside every frame
        seen[row, size : size + count] = one.frames
        if mistaken is not None:
            wrong = mistaken.random((count, groups)) < MISTAKEN * (mistaken.random((count, 1)) < 0.5)
            seen[row, size : size + count][wrong] = mistaken.integers(0, TRAINED.codes, int(wrong.sum()))
        places += [row * length + size - 1 + number for number in range(count + 1)]
        first += [*one.frames[:, 0], end]
        whole += range(len(places) - count - 1, len(places) - 1)
        frames.append(one.frames)
    arrays = (text, codec, seen, np.array(places), np.array(first), np.array(whole), np.concatenate(frames))
    return TalkerBatch(*(mx.array(one) for one in arrays))


def batches(writer: TalkerWriter, rows: int, seed: int) -> Iterator[TalkerBatch]:
    """Of sequences of like length."""
    draw, mistaken = random.Random(seed), np.random.default_rng(seed)
    end = writer.config["talker_config"]["codec_eos_token_id"]
    while True:
        pool = sorted((writer.drawn(draw) for _ in range(POOL * rows)), key=lambda one: one.places)
        groups = [pool[start : start + rows] for start in range(0, len(pool), rows)]
        draw.shuffle(groups)
        for group in groups:
            yield batch(group, end, mistaken)


# -- the model ------------------------------------------------------------------------------------------------------


def new_model(words: Tokenizer) -> Any:
    """The library's, with weights to begin with."""
    model = Model(ModelConfig.from_dict(json.loads(json.dumps(config(words, "custom_voice", "1b7", TRAINED)))))
    mx.random.seed(3)
    model.talker.update(tree_map_with_path(_first, model.talker.parameters()))
    return model


def _first(name: str, array: mx.array) -> mx.array:
    if name.endswith("bias"):
        return mx.zeros(array.shape)
    if array.ndim == 1:
        return mx.full(array.shape, 1.5 if "q_norm" in name or "k_norm" in name else 1.0)
    if "text_embedding" in name:
        return mx.random.normal(array.shape)
    if "codec_embedding" in name:
        return mx.random.normal(array.shape, scale=0.5)
    small = 0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
    return mx.random.normal(array.shape, scale=small * array.shape[-1] ** -0.5)


def embed(talker: Any, given: TalkerBatch) -> mx.array:
    """(rows, places, width)"""
    projection = talker.text_projection
    table = talker.model.text_embedding.weight
    texts_seen = projection.linear_fc2(layers.silu(projection.linear_fc1(table)))
    x = _looked_up(texts_seen, given.text) + _looked_up(talker.model.codec_embedding.weight, given.codec)
    x = x + _looked_up(talker.model.codec_embedding.weight, given.seen[..., 0])
    for place, part in enumerate(talker.code_predictor.model.codec_embedding, start=1):
        x = x + _looked_up(part.weight, given.seen[..., place])
    return x


def _looked_up(table: mx.array, ids: mx.array) -> mx.array:
    """Nothing where there is no id."""
    return table[mx.maximum(ids, 0)] * (ids >= 0)[..., None]


def outputs(talker: Any, given: TalkerBatch) -> tuple[mx.array, list[mx.array]]:
    """Logits of all first codes and ends, and of each other group's codes."""
    hidden = layers.transformed(talker.model, embed(talker, given))
    told = hidden.reshape(-1, hidden.shape[-1])[given.places]
    predictor = talker.code_predictor
    parts = [told[given.whole], talker.model.codec_embedding.weight[given.frames[:, 0]]]
    for place, part in enumerate(predictor.model.codec_embedding[: TRAINED.groups - 2], start=1):
        parts.append(part.weight[given.frames[:, place]])
    inner = layers.transformed(predictor.model, mx.stack(parts, axis=1))
    return talker.codec_head(told), [head(inner[:, place + 1]) for place, head in enumerate(predictor.lm_head)]


def loss(talker: Any, given: TalkerBatch) -> tuple[mx.array, mx.array, mx.array]:
    """The sum, that of the first codes, and the mean of the others'."""
    first, rest = outputs(talker, given)
    firsts = nn.losses.cross_entropy(first, given.first, reduction="mean")
    others = [
        nn.losses.cross_entropy(logits, given.frames[:, place], reduction="mean")
        for place, logits in enumerate(rest, start=1)
    ]
    mean = sum(others) / len(others)
    return firsts + mean, firsts, mean


def train(talker: Any, data: Iterator[TalkerBatch], seconds: float, keep: Callable[[], None]) -> None:
    """In place. The rate falls as the time goes by; `keep` is called now and then, and at the end."""
    optimizer = optim.AdamW(RATE, betas=[0.9, 0.98], weight_decay=0.01)
    step_of = nn.value_and_grad(talker, lambda given: loss(talker, given))
    began = kept = time.monotonic()
    step, seen = 0, [0.0, 0.0]
    while (gone := (time.monotonic() - began) / seconds) < 1:
        optimizer.learning_rate = RATE * min(1.0, (step + 1) / WARM_UP) * (0.01 + 0.99 * np.cos(gone * np.pi / 2))
        (value, *parts), gradients = step_of(next(data))
        gradients, _ = optim.clip_grad_norm(gradients, 1.0)  # type: ignore[no-untyped-call]
        optimizer.update(talker, gradients)
        mx.eval(talker.parameters(), optimizer.state, value, parts)
        step += 1
        losses = [part.item() for part in parts]
        seen = losses if step == 1 else [0.98 * old + 0.02 * new for old, new in zip(seen, losses, strict=True)]
        if step % TELL_EVERY == 0:
            told = f"first codes {seen[0]:.3f}, others {seen[1]:.3f}, {time.monotonic() - began:.0f} s"
            sys.stdout.write(f"talker step {step:5}: {told}\n")
            sys.stdout.flush()
        if time.monotonic() - kept > 30:
            keep()
            kept = time.monotonic()
    keep()


def new_tokenizer() -> Tokenizer:
    """Every known word is one token, behind a blank too; anything else is in letters or in bytes."""
    return tokenizer([form for text in texts.spellings() for form in (text, f" {text}") for _ in range(2)], ENOUGH)


def save(talker: Any, out: Path) -> None:
    keep_weights(talker, out / "talker.npz")


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    if len(arguments) not in (3, 4):
        sys.stderr.write("usage: python -m training.voice.talker CORPUS OUT SECONDS [ROWS]\n")
        return 2
    corpus, out = Path(arguments[0]), Path(arguments[1])
    rows = int(arguments[3]) if len(arguments) == 4 else ROWS
    out.mkdir(parents=True, exist_ok=True)
    mx.set_cache_limit(layers.CACHE)
    words = new_tokenizer()
    words.save(str(out / "qwen3-tts.tokenizer.json"), pretty=False)
    writer = TalkerWriter(words, units.read(corpus), codebooks.read(corpus).codes)
    talker = new_model(words).talker
    know_weights(talker, out / "talker.npz")
    train(talker, batches(writer, rows, 1), float(arguments[2]), lambda: save(talker, out))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
