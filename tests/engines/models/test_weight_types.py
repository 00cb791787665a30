"""Which weights are plain float32, by the headers of real files."""

import os
from pathlib import Path

import mlx.core as mx
import pytest

from demo.checkpoints import make_qwen3
from engines.models import weight_types
from engines.models.checkpoint import inspect, is_float32
from engines.models.weight_types import are_float32
from tests.promises import promise


def shard(folder: Path, **weights: mx.array) -> Path:
    path = folder / f"{'-'.join(weights)}.safetensors"
    mx.save_safetensors(str(path), weights)
    return path


@promise("mac:reproducible")
@pytest.mark.parametrize(
    ("dtype", "plain"), [(mx.float32, True), (mx.float16, False), (mx.bfloat16, False), (mx.uint32, False)]
)
def test_half_precision_and_packed_weights_are_not(tmp_path: Path, dtype: mx.Dtype, plain: bool) -> None:
    whole = shard(tmp_path, a=mx.zeros((2, 2)))
    assert are_float32([whole], {})
    assert are_float32([whole, shard(tmp_path, b=mx.zeros((2, 2), dtype))], {}) is plain


def test_a_configuration_that_names_a_quantisation_is_believed(tmp_path: Path) -> None:
    assert not are_float32([shard(tmp_path, a=mx.zeros((2,)))], {"quantization": {"bits": 4}})


def test_what_has_no_such_header_promises_nothing(tmp_path: Path) -> None:
    (tmp_path / "weights.npz").write_bytes(b"PK")
    (tmp_path / "cut.safetensors").write_bytes(b"1")
    for path in (*tmp_path.iterdir(), tmp_path / "gone.safetensors"):
        assert not are_float32([path], {})
    assert not are_float32([], {})


def test_of_a_header_too_long_to_be_read_nothing_is_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shard(tmp_path, a=mx.zeros((2,)))
    assert are_float32([path], {})
    monkeypatch.setattr(weight_types, "MOST_HEADER", 10)
    assert not are_float32([path], {})


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    assert not are_float32([tmp_path / "model.safetensors"], {})


def test_to_resolve_a_name_reads_no_weights_and_their_types_are_known_when_asked(tmp_path: Path) -> None:
    make_qwen3(tmp_path)
    weights = tmp_path / "model.safetensors"
    assert is_float32(inspect(tmp_path))
    weights.write_bytes(b"x" * 100)
    seen = inspect(tmp_path)
    assert seen.capability == "chat" and not seen.missing and not is_float32(seen)
