"""A prompt that costs what its last token needs gives the logits that the whole would give."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model

from demo.checkpoints import make_gemma3, make_qwen3
from engines.runner.generation.kv import caches
from engines.runner.generation.split_forward import SplitForward, parts

IDS = [300 + 13 * place % 600 for place in range(90)]


@pytest.fixture(scope="module", params=[make_qwen3, make_gemma3])
def module(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    make: Callable[[Path], None] = request.param
    folder = tmp_path_factory.mktemp("checkpoint")
    make(folder)
    return load_model(folder, strict=True)[0]


def taken_apart(module: Any) -> SplitForward:
    made = parts(module)
    assert made is not None and made.lean
    return made


def near(one: mx.array, other: mx.array) -> bool:
    return bool(mx.allclose(one, other, rtol=1e-4, atol=1e-4).item())


@pytest.mark.parametrize("before", [0, 1, 40])
def test_the_last_logits_are_those_of_the_whole_whatever_the_cache_holds(module: Any, before: int) -> None:
    cache = make_prompt_cache(module)
    if before:
        module(mx.array([IDS[:before]]), cache=cache)
    logits = taken_apart(module).last(mx.array([IDS[before:]]), cache, {})
    assert near(logits, module(mx.array([IDS]))[:, -1])


def test_what_the_cache_holds_behind_it_is_what_the_whole_leaves_there(module: Any) -> None:
    cache, other = make_prompt_cache(module), make_prompt_cache(module)
    taken_apart(module).last(mx.array([IDS]), cache, {})
    module(mx.array([IDS]), cache=other)
    again = mx.array([[301]])
    assert near(module(again, cache=cache), module(again, cache=other))


@pytest.mark.parametrize("lengths", [[60, 60, 60], [60, 31, 90]])
def test_every_row_of_several_has_its_own_last_logits(module: Any, lengths: list[int]) -> None:
    rows = [IDS[:length] for length in lengths]
    batch = caches.merge([make_prompt_cache(module) for _ in rows])
    padded = mx.array([row + [0] * (max(lengths) - len(row)) for row in rows])
    with caches.padded(batch, lengths):
        logits = taken_apart(module).ends(padded, lengths, batch, {})
    for row, ids in enumerate(rows):
        assert near(logits[row], module(mx.array([ids]))[0, -1])


class Counted:
    """A layer that notes how many positions it was asked for, and for how many of them what comes of them was used."""

    def __init__(self, layer: Any, used: list[int]) -> None:
        self._layer = layer
        self._used = used

    def __call__(self, x: mx.array, mask: Any = None, cache: Any = None) -> Any:
        out = self._layer(x, mask, cache)
        self._used.append(out.shape[1])
        return out


def test_the_last_layer_gives_one_position_and_the_others_all(module: Any) -> None:
    made, body = taken_apart(module), module.model
    layers, used = list(body.layers), [[] for _ in body.layers]  # type: list[Any], list[list[int]]
    body.layers = [Counted(layer, note) for layer, note in zip(layers, used, strict=True)]
    try:
        mx.eval(made.last(mx.array([IDS]), make_prompt_cache(module), {}))
    finally:
        body.layers = layers
    assert used[0] == [len(IDS)]
    assert used[-1] == [len(IDS) - 1, 1]


def test_a_module_without_a_head_of_its_own_is_left_whole() -> None:
    class Whole(dict[str, Any]):
        pass

    assert parts(Whole()) is None
