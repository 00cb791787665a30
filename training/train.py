"""`python -m training.train qwen3|gemma3 OUT [FROM]`: trains a chat checkpoint from nothing, in tens of minutes.

With FROM, a second run goes on from the weights there, on other shares of the corpus. Into OUT go NAME.safetensors and
NAME.tokenizer.json, as `demo/weights` holds them.
"""

import training.quick_blas  # noqa: F401

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
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from tokenizers import Tokenizer

from demo import checkpoints
from training import vocabulary
from training.corpus import conversation
from training.render import FAMILIES, Family, Sample, cut_thought, sample
from training.talk import Conversation

VOCABULARY = 1500
POOL = 256
BATCH_TOKENS = 1024
WARM_UP = 100
SHORT_TOKENS = 100
CUT_THOUGHTS = 0.15


@dataclass(frozen=True)
class Recipe:
    """How a family is trained."""

    """Of a run; `later` is the second."""

    steps: int
    rate: float
    short: int = 0
    later: bool = False


FIRST = {"qwen3": Recipe(2800, 1.5e-3, short=980), "gemma3": Recipe(2400, 2e-3, short=840)}
SECOND = {"qwen3": Recipe(2200, 1e-3, later=True), "gemma3": Recipe(1600, 1e-3, later=True)}
WRITERS = {"qwen3": checkpoints.write_qwen3, "gemma3": checkpoints.write_gemma3}
SIZES = {"qwen3": checkpoints.TRAINED_QWEN3, "gemma3": checkpoints.TRAINED_GEMMA3}
Batch = tuple[mx.array, mx.array, mx.array]


def batches(tokenizer: Tokenizer, writes: Family, recipe: Recipe) -> Iterator[Batch]:
    """Endless. A batch holds sequences of about one length: inputs, places of the answers' tokens, those tokens.

    The first batches hold short sequences only: there questions and copying are learnt, before tools are.
    """
    draw = random.Random(1)
    first, given = (5_000_000 if recipe.later else 1_000_000), 0
    while True:
        pool = [
            one
            for seed in range(first, first + POOL)
            for one in _samples(tokenizer, writes, conversation(seed, recipe.later), draw)
        ]
        first += POOL
        if given < recipe.short:
            pool = [one for one in pool if len(one.ids) <= SHORT_TOKENS]
        made = list(_cut(sorted(pool, key=lambda one: len(one.ids))))
        draw.shuffle(made)
        given += len(made)
        yield from map(_batch, made)


def _samples(tokenizer: Tokenizer, writes: Family, made: Conversation, draw: random.Random) -> Iterator[Sample]:
    for pieces in writes.pieces(made):
        cut = draw.random() < CUT_THOUGHTS
        yield sample(tokenizer, cut_thought(pieces, draw) if cut else pieces)


def _cut(pool: list[Sample]) -> Iterator[list[Sample]]:
    group: list[Sample] = []
    for one in pool:
        if (len(group) + 1) * len(one.ids) > BATCH_TOKENS and group:
            yield group
            group = []
        group.append(one)
    yield group


def _batch(group: list[Sample]) -> Batch:
    """Padded on the right: a causal model sees no padding before its last real token."""
    length = max(len(one.ids) for one in group) - 1
    ids = np.zeros((len(group), length), np.int32)
    places: list[int] = []
    targets: list[int] = []
    for row, one in enumerate(group):
        ids[row, : len(one.ids) - 1] = one.ids[:-1]
        for place in range(1, len(one.ids)):
            if one.learnt[place]:
                places.append(row * length + place - 1)
                targets.append(one.ids[place])
    return mx.array(ids), mx.array(places), mx.array(targets)


def loss(model: Any, batch: Batch) -> mx.array:
    """Cross entropy of the answers' tokens; the head is applied only there."""
    ids, places, targets = batch
    hidden = model.model(ids)
    logits: mx.array = model.lm_head(hidden.reshape(-1, hidden.shape[-1])[places])
    return nn.losses.cross_entropy(logits, targets, reduction="mean")


def new_model(family: str, tokenizer: Tokenizer) -> Any:
    """mlx-lm's own class, from the very config that a server reads, with weights to begin with."""
    with tempfile.TemporaryDirectory() as name:
        WRITERS[family](Path(name), tokenizer, SIZES[family], tokenizer.get_vocab_size())
        config = json.loads((Path(name) / "config.json").read_text(encoding="utf-8"))
    library = importlib.import_module(f"mlx_lm.models.{config['model_type']}")
    model = library.Model(library.ModelArgs.from_dict(config))
    mx.random.seed(3)
    model.update(tree_unflatten([(name, _first(family, name, array)) for name, array in _named(model)]))
    return model


def known_model(family: str, folder: Path) -> tuple[Tokenizer, Any]:
    """What an earlier run left there."""
    tokenizer = Tokenizer.from_file(str(folder / f"{family}.tokenizer.json"))
    model = new_model(family, tokenizer)
    weights = checkpoints.stored(folder / f"{family}.safetensors")
    model.load_weights([(name, mx.array(weight)) for name, weight in weights.items()])
    return tokenizer, model


def _named(model: Any) -> list[tuple[str, mx.array]]:
    return cast(list[tuple[str, mx.array]], tree_flatten(model.parameters()))


def _first(family: str, name: str, array: mx.array) -> mx.array:
    """Residual branches begin small beside the embeddings, attention begins sharp: both speed up the beginning."""
    if array.ndim == 1:
        scale = 1.5 if "q_norm" in name or "k_norm" in name else 0.3 if family == "gemma3" and "post_" in name else 1.0
        return mx.full(array.shape, scale if family == "qwen3" else scale - 1.0)
    if "embed_tokens" in name:
        return mx.random.normal(array.shape, scale=0.5 if family == "qwen3" else 0.05)
    small = 0.4 if family == "qwen3" and ("o_proj" in name or "down_proj" in name) else 1.0
    return mx.random.normal(array.shape, scale=small * array.shape[-1] ** -0.5)


def train(model: Any, data: Iterator[Batch], recipe: Recipe, keep: Callable[[], None]) -> None:
    """In place; `keep` is called now and then, and at the end."""
    warm = optim.linear_schedule(0.0, recipe.rate, WARM_UP)
    fall = optim.cosine_decay(recipe.rate, recipe.steps - WARM_UP, recipe.rate / 100)
    optimizer = optim.AdamW(optim.join_schedules([warm, fall], [WARM_UP]), betas=[0.9, 0.98], weight_decay=0.05)
    value_and_gradients = nn.utils.value_and_grad(model, loss)
    began, seen = time.monotonic(), 0.0
    for step in range(1, recipe.steps + 1):
        value, gradients = value_and_gradients(model, next(data))
        gradients, _ = optim.clip_grad_norm(gradients, 1.0)  # type: ignore[no-untyped-call]
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state, value)
        seen = value.item() if step == 1 else 0.98 * seen + 0.02 * value.item()
        if step % 50 == 0:
            sys.stdout.write(f"step {step:5} loss {seen:.4f} after {time.monotonic() - began:.0f} s\n")
            sys.stdout.flush()
        if step % 400 == 0 or step == recipe.steps:
            keep()


def save(model: Any, tokenizer: Tokenizer, out: Path, family: str) -> None:
    """Both files, as `demo.checkpoints` reads them."""
    out.mkdir(parents=True, exist_ok=True)
    checkpoints.store({name: np.array(array) for name, array in _named(model)}, out / f"{family}.safetensors")
    tokenizer.save(str(out / f"{family}.tokenizer.json"), pretty=False)


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    if len(arguments) not in (2, 3) or arguments[0] not in FAMILIES:
        sys.stderr.write("usage: python -m training.train qwen3|gemma3 OUT [FROM]\n")
        return 2
    family, out = arguments[0], Path(arguments[1])
    mx.set_default_device(mx.cpu)
    mx.set_cache_limit(1 << 30)
    writes = FAMILIES[family]()
    if len(arguments) == 3:
        recipe = SECOND[family]
        tokenizer, model = known_model(family, Path(arguments[2]))
    else:
        recipe = FIRST[family]
        tokenizer = vocabulary.learn(family, writes, VOCABULARY)
        model = new_model(family, tokenizer)
    train(model, batches(tokenizer, writes, recipe), recipe, lambda: save(model, tokenizer, out, family))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
