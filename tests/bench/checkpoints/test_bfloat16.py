"""Weights in bfloat16: what is read back is random, of the right size, and silent where it is to be."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from msgspec.structs import replace

from bench.checkpoints import bfloat16
from bench.checkpoints import chat as checkpoints
from bench.scale import LARGE, QUICK

SHAPES = {
    "model.embed_tokens.weight": (50, 64),
    "layer.weight": (30, 64),
    "model.norm.weight": (64,),
    "lm_head.weight": (50, 64),
}


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, mx.array]:
    silent = np.zeros(50, bool)
    silent[10:] = True
    bfloat16.write(tmp_path / "model.safetensors", SHAPES, silent)
    found = mx.load(str(tmp_path / "model.safetensors"))
    assert isinstance(found, dict)
    return found


def test_shapes_and_types_are_those_that_were_asked_for(weights: dict[str, mx.array]) -> None:
    assert {name: weight.shape for name, weight in weights.items()} == SHAPES
    assert {weight.dtype for weight in weights.values()} == {mx.bfloat16}


def test_matrices_keep_what_goes_through_them_at_its_size(weights: dict[str, mx.array]) -> None:
    layer = weights["layer.weight"].astype(mx.float32)
    assert mx.std(layer).item() == pytest.approx(64**-0.5, rel=0.1)
    assert mx.std(weights["model.embed_tokens.weight"].astype(mx.float32)).item() == pytest.approx(1, rel=0.1)
    assert mx.all(weights["model.norm.weight"] == 1).item()


def test_silent_rows_are_zero_and_no_others(weights: dict[str, mx.array]) -> None:
    silent = mx.all(weights["lm_head.weight"] == 0, axis=1)
    assert silent.tolist() == [False] * 10 + [True] * 40


def test_rounding_is_to_the_nearest_as_mlx_has_it() -> None:
    values = np.random.default_rng(1).standard_normal(10_000).astype(np.float32)
    theirs = np.array(mx.array(values).astype(mx.bfloat16).view(mx.uint16))
    assert np.array_equal(bfloat16.rounded(values), theirs)


def test_a_matrix_larger_than_the_block_has_no_row_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bfloat16, "BLOCK", 1009)
    bfloat16.write(tmp_path / "model.safetensors", {"layer.weight": (200, 64)}, np.zeros(0, bool))
    found = mx.load(str(tmp_path / "model.safetensors"))
    assert isinstance(found, dict)
    rows = np.array(found["layer.weight"].view(mx.uint16))
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_a_step_of_a_checkpoint_in_bfloat16_reads_two_bytes_a_weight(tmp_path: Path) -> None:
    whole = checkpoints.make(tmp_path, 4032, QUICK)
    half = checkpoints.make(tmp_path, 4032, replace(QUICK, name="half", bfloat16=True))
    assert half.folder != whole.folder
    assert half.bytes_per_step(10) * 2 == whole.bytes_per_step(10)


def test_the_large_shape_is_named_in_its_lines() -> None:
    assert [LARGE.label(rows) for rows in LARGE.vocabularies] == ["large 151k"]
    assert [QUICK.label(rows) for rows in QUICK.vocabularies] == ["4k"]
