"""`python -m demo.training.speech.train CORPUS OUT RUN [FROM]`: trains the demo's Qwen3-ASR checkpoint.

CORPUS is what `demo.training.speech.corpus` made. RUN 1 begins from nothing; 2, and then 3, go on from the weights in
FROM. Into OUT go qwen3-asr.safetensors and qwen3-asr.tokenizer.json, as `demo/weights` holds them.
"""

import demo.training.quick_blas  # noqa: F401

# isort: split
import importlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_map_with_path
from mlx_audio.stt.models.qwen3_asr.config import ModelConfig
from mlx_audio.stt.models.qwen3_asr.qwen3_asr import Qwen3ASRModel
from tokenizers import Tokenizer

from demo import speech_checkpoints
from demo.checkpoints import store, stored
from demo.training.speech import phrases
from demo.training.speech.alignment import expected
from demo.training.speech.examples import Batch, Recording, Writer, batch, groups, joined, recordings, with_words
from demo.training.speech.forward import decode, encode

nn: Any = importlib.import_module("mlx.nn")  # half typed

WARM_UP = 100
POOL = 1500
KEEP_EVERY, TELL_EVERY = 400, 100


@dataclass(frozen=True)
class Stage:
    """Until this share of all steps: shares of recordings of one, two, three to six, and more words, of several that
    are joined to one of two to six words, and of none."""

    until: float
    one: float
    two: float
    few: float
    many: float
    joined: float
    none: float


@dataclass(frozen=True)
class Recipe:
    """Of a run. `hearing`: how much it counts to know each word in the audio, beside writing them."""

    steps: int
    rate: float
    tokens: int
    hearing: float
    stages: tuple[Stage, ...]


RUNS = (
    # First which sound is which word, then the order of two.
    Recipe(
        4000,
        1.5e-3,
        640,
        1.0,
        (Stage(0.6, 0.95, 0.0, 0.0, 0.0, 0.0, 0.05), Stage(1.0, 0.35, 0.60, 0.0, 0.0, 0.0, 0.05)),
    ),
    # Then the order of more: where only two are known, the second is sought at the end.
    Recipe(
        5500,
        1e-3,
        800,
        0.0,
        (Stage(0.35, 0.05, 0.10, 0.38, 0.06, 0.38, 0.03), Stage(1.0, 0.06, 0.08, 0.38, 0.26, 0.19, 0.03)),
    ),
    # Then more of all.
    Recipe(1500, 6e-4, 800, 0.0, (Stage(1.0, 0.09, 0.10, 0.40, 0.22, 0.16, 0.03),)),
)


class Learner(nn.Module):  # type: ignore[misc]
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

    def loss(self, given: Batch, hearing: float) -> tuple[mx.array, mx.array, mx.array]:
        """The sum, cross entropy of the answers, and that of the words in the audio, which counts `hearing` times."""
        heard = encode(self.asr.audio_tower, given.heard)
        table = self.table()
        audio = heard.reshape(-1, heard.shape[-1])[mx.maximum(given.sources, 0)]
        x = mx.where(given.sources[..., None] < 0, table[given.ids], audio)
        answers = decode(self.asr.model, x).reshape(-1, x.shape[-1])[given.places]
        errors = nn.losses.cross_entropy(answers @ table.T, given.targets, reduction="none")
        writing = (errors * given.weights).sum() / given.weights.sum()
        if not hearing:
            return writing, writing, mx.array(0.0)
        logits = self.classifier(heard)
        logs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        shares = expected(np.array(mx.stop_gradient(logs), np.float64), given.heard.lengths, given.labels)
        words = sum(len(labels) for labels in given.labels) + len(given.labels)
        hearing_loss = -(logs * mx.array(shares.astype(np.float32))).sum() / words
        return writing + hearing * hearing_loss, writing, hearing_loss


def new_learner(tokenizer: Any) -> Learner:
    """With weights to begin with."""
    with tempfile.TemporaryDirectory() as name:
        speech_checkpoints.write_qwen3_asr(
            Path(name), tokenizer, speech_checkpoints.TRAINED_LANGUAGES, size=speech_checkpoints.TRAINED_TEXT
        )
        config = json.loads((Path(name) / "config.json").read_text(encoding="utf-8"))
    asr = Qwen3ASRModel(ModelConfig.from_dict(config))
    ids = tokenizer.get_vocab()
    alone, spaced = np.arange(len(ids)), np.zeros((len(ids), 1), np.float32)
    for word in phrases.spellings():
        first, (second,) = tokenizer.encode(word).ids[0], tokenizer.encode(f" {word}").ids
        alone[second], spaced[second] = first, 1.0
    classes = sum(len(language.words) for language in phrases.LANGUAGES) + 1
    mx.random.seed(3)
    asr.update(tree_map_with_path(_first, asr.parameters()))
    return Learner(asr, classes, mx.array(alone), mx.array(spaced))


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


def known_learner(folder: Path) -> tuple[Tokenizer, Learner]:
    """What an earlier run left there."""
    tokenizer = Tokenizer.from_file(str(folder / "qwen3-asr.tokenizer.json"))
    learner = new_learner(tokenizer)
    weights = stored(folder / "qwen3-asr.safetensors")
    learner.asr.load_weights([(name, mx.array(weight)) for name, weight in weights.items()])
    # It was stored with the blank's share: what follows a blank is embedded as what doesn't, plus the mean difference.
    table = learner.asr.model.embed_tokens.weight
    learner.blank = ((table - table[learner._alone]) * learner._spaced).sum(axis=0) / learner._spaced.sum()
    return tokenizer, learner


def batches(writer: Writer, every: list[Recording], recipe: Recipe) -> Iterator[Batch]:
    """As many as there are steps."""
    draw = random.Random(recipe.steps)
    kinds = [with_words(every, fewest, most) for fewest, most in ((1, 1), (2, 2), (3, 6), (7, 99), (0, 0))]
    short = with_words(every, 1, 2)
    step = 0
    while True:
        stage = next(one for one in recipe.stages if step < one.until * recipe.steps)
        shares = (stage.one, stage.two, stage.few, stage.many, stage.none)
        pool = [
            one for kind, share in zip(kinds, shares, strict=True) for one in draw.choices(kind, k=int(POOL * share))
        ]
        pool += [joined(draw.choices(short, k=draw.randint(4, 9))) for _ in range(int(POOL * stage.joined))]
        for group in groups(pool, recipe.tokens, draw):
            yield batch(writer, group, recipe.steps + step)
            step += 1
            if step == recipe.steps:
                return


def train(learner: Learner, data: Iterator[Batch], recipe: Recipe, keep: Callable[[], None]) -> None:
    """In place; `keep` is called now and then, and at the end."""
    warm = optim.linear_schedule(0.0, recipe.rate, WARM_UP)
    fall = optim.cosine_decay(recipe.rate, recipe.steps - WARM_UP, recipe.rate / 100)
    optimizer = optim.AdamW(optim.join_schedules([warm, fall], [WARM_UP]), betas=[0.9, 0.98], weight_decay=0.02)
    value_and_gradients = nn.utils.value_and_grad(learner, learner.loss)
    began, seen, recordings_seen = time.monotonic(), [0.0, 0.0], 0
    for step, given in enumerate(data, start=1):
        (value, *parts), gradients = value_and_gradients(given, recipe.hearing)
        gradients, _ = optim.clip_grad_norm(gradients, 1.0)  # type: ignore[no-untyped-call]
        optimizer.update(learner, gradients)
        mx.eval(learner.parameters(), optimizer.state, value, parts)
        losses = [part.item() for part in parts]
        seen = losses if step == 1 else [0.98 * old + 0.02 * new for old, new in zip(seen, losses, strict=True)]
        recordings_seen += len(given.labels)
        if step % TELL_EVERY == 0:
            told = f"writing {seen[0]:.3f}, hearing {seen[1]:.3f}, {recordings_seen} recordings"
            sys.stdout.write(f"step {step:5} {told}, {time.monotonic() - began:.0f} s\n")
            sys.stdout.flush()
        if step % KEEP_EVERY == 0 or step == recipe.steps:
            keep()


def save(learner: Learner, tokenizer: Tokenizer, out: Path) -> None:
    """As `demo.speech_checkpoints` reads it."""
    out.mkdir(parents=True, exist_ok=True)
    named = dict(cast(list[tuple[str, mx.array]], tree_flatten(learner.asr.parameters())))
    named["model.embed_tokens.weight"] = learner.table()
    store({name: np.array(array) for name, array in named.items()}, out / "qwen3-asr.safetensors")
    tokenizer.save(str(out / "qwen3-asr.tokenizer.json"), pretty=False)


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    if arguments[2:3] != ["1"] and (len(arguments) != 4 or arguments[2] not in ("2", "3")):
        sys.stderr.write("usage: python -m demo.training.speech.train CORPUS OUT 1, or CORPUS OUT 2|3 FROM\n")
        return 2
    corpus, out, recipe = Path(arguments[0]), Path(arguments[1]), RUNS[int(arguments[2]) - 1]
    mx.set_default_device(mx.cpu)
    mx.set_cache_limit(1 << 30)
    if len(arguments) == 4:
        tokenizer, learner = known_learner(Path(arguments[3]))
    else:
        tokenizer = speech_checkpoints.speech_tokenizer(phrases.spellings(), speech_checkpoints.TRAINED_LANGUAGES)
        learner = new_learner(tokenizer)
    data = batches(Writer(tokenizer), recordings(corpus), recipe)
    train(learner, data, recipe, lambda: save(learner, tokenizer, out))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
