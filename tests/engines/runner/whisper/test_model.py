"""Checkpoints of every form in which Whisper is published."""

import json
from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.nn.layers.quantized import quantize

from demo.whisper_checkpoint import make_whisper
from engines.runner.loaders import Loaders
from engines.runner.whisper import model as models
from engines.runner.whisper.engine import WhisperEngine
from engines.runner.whisper.prepare import WhisperPreparer
from engines.types.errors import CheckpointUnusable
from tests.engines.runner.whisper.desk import Desk, request, without_timings

HUGGING_FACE = [  # what their names have instead of ours, in this order
    ("blocks.", "layers."),
    ("cross_attn_ln.", "encoder_attn_layer_norm."),
    ("cross_attn.", "encoder_attn."),
    (".attn_ln.", ".self_attn_layer_norm."),
    (".attn.", ".self_attn."),
    ("query.", "q_proj."),
    ("key.", "k_proj."),
    ("value.", "v_proj."),
    (".out.", ".out_proj."),
    ("mlp_ln.", "final_layer_norm."),
    ("mlp1.", "fc1."),
    ("mlp2.", "fc2."),
    ("ln_post.", "layer_norm."),
    ("decoder.ln.", "decoder.layer_norm."),
    ("token_embedding.", "embed_tokens."),
    ("positional_embedding", "embed_positions.weight"),
]


def weights_of(folder: Path) -> dict[str, mx.array]:
    weights = mx.load(str(folder / "model.safetensors"))
    assert isinstance(weights, dict)
    return weights


def hugging_face(weights: Mapping[str, mx.array]) -> dict[str, mx.array]:
    renamed = {}
    for name, weight in weights.items():
        for ours, theirs in HUGGING_FACE:
            name = name.replace(ours, theirs)
        renamed[f"model.{name}"] = weight.transpose(0, 2, 1) if "conv" in name and weight.ndim == 3 else weight
    renamed["model.encoder.embed_positions.weight"] = mx.zeros((1500, 32))
    renamed["proj_out.weight"] = renamed["model.decoder.embed_tokens.weight"]
    return renamed


def copied(folder: Path, target: Path, config: Mapping[str, object] | None = None) -> Path:
    """All but the weights."""
    target.mkdir(exist_ok=True)
    for file in folder.glob("*.json"):
        (target / file.name).write_bytes(file.read_bytes())
    if config is not None:
        (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return target


@pytest.fixture(scope="module")
def logits(english: Path) -> mx.array:
    return logits_of(models.load(english))


def logits_of(model: models.WhisperModel) -> mx.array:
    window = np.random.default_rng(1).normal(size=(500, model.bins)).astype(np.float32)
    return model.begin([303, 5, 6], model.listen(window), [0, 2])[0]


def test_weights_with_the_names_and_configuration_of_hugging_face_are_read(
    english: Path, tmp_path: Path, logits: mx.array
) -> None:
    size = json.loads((english / "config.json").read_text())["n_vocab"]
    config = {
        "model_type": "whisper",
        "num_mel_bins": 128,
        "d_model": 32,
        "encoder_layers": 1,
        "encoder_attention_heads": 1,
        "decoder_layers": 2,
        "decoder_attention_heads": 2,
        "vocab_size": size,
        "max_source_positions": 1500,
        "max_target_positions": 448,
    }
    copied(english, tmp_path, config)
    mx.save_safetensors(str(tmp_path / "model.safetensors"), hugging_face(weights_of(english)))
    assert mx.array_equal(logits_of(models.load(tmp_path)), logits)
    assert WhisperPreparer.read(tmp_path).write(request()).features.shape[1] == 128


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.npz"])
def test_older_names_of_files_are_read(english: Path, tmp_path: Path, logits: mx.array, name: str) -> None:
    copied(english, tmp_path)
    if name.endswith("npz"):
        mx.savez(str(tmp_path / name), **weights_of(english))
    else:
        mx.save_safetensors(str(tmp_path / name), weights_of(english))
    assert mx.array_equal(logits_of(models.load(tmp_path)), logits)


def test_quantised_weights_are_read(english: Path, tmp_path: Path, logits: mx.array) -> None:
    module = models.load(english)._module
    quantize(module, group_size=32, bits=8, class_predicate=lambda path, part: hasattr(part, "to_quantized"))
    config = json.loads((english / "config.json").read_text()) | {"quantization": {"group_size": 32, "bits": 8}}
    copied(english, tmp_path, config)
    module.save_weights(str(tmp_path / "model.safetensors"))
    near = logits_of(models.load(tmp_path))
    assert not mx.array_equal(near, logits)
    assert np.corrcoef(np.array(near).ravel(), np.array(logits).ravel())[0, 1] > 0.9


def test_weights_are_complete_or_refused(english: Path, tmp_path: Path) -> None:
    copied(english, tmp_path)
    with pytest.raises(CheckpointUnusable, match="no weights"):
        models.load(tmp_path)
    weights = weights_of(english)
    del weights["decoder.blocks.1.mlp1.bias"]
    mx.save_safetensors(str(tmp_path / "model.safetensors"), weights)
    with pytest.raises(CheckpointUnusable, match=r"decoder\.blocks\.1\.mlp1\.bias"):
        models.load(tmp_path)


def test_on_a_cpu_all_is_computed_in_float32(multilingual: Path) -> None:
    if mx.default_device().type != mx.cpu:
        pytest.skip("elsewhere half precision is fast")
    model = models.load(multilingual)
    assert logits_of(model).dtype == mx.float32
    assert model._module.encoder._positional_embedding.dtype == mx.float32
    heads = 2 * 2 * 32 * (1500 + 448) * 4
    assert model.row_bytes == heads


def test_alignment_heads_are_the_files_or_those_of_the_upper_layers(english: Path, tmp_path: Path) -> None:
    assert models.load(english).alignment_heads == ((1, 0), (1, 1))
    copied(english, tmp_path)
    mx.save_safetensors(str(tmp_path / "model.safetensors"), weights_of(english))
    (tmp_path / "generation_config.json").write_text('{"alignment_heads": [[0, 1]]}')
    assert models.load(tmp_path).alignment_heads == ((0, 1),)
    (tmp_path / "generation_config.json").unlink()
    assert models.load(tmp_path).alignment_heads == ((1, 0), (1, 1))


def test_a_runner_finds_both_its_parts(multilingual: Path) -> None:
    assert isinstance(Loaders().preparer(multilingual, 4096), WhisperPreparer)
    assert isinstance(Loaders().engine(multilingual, 1 << 30), WhisperEngine)


def test_the_same_call_writes_the_same_bytes_and_few_of_them(multilingual: Path, tmp_path: Path) -> None:
    make_whisper(tmp_path)
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files == sorted(file.name for file in multilingual.iterdir())
    assert all((tmp_path / name).read_bytes() == (multilingual / name).read_bytes() for name in files)
    assert sum((tmp_path / name).stat().st_size for name in files) < 4_000_000


def test_different_sounds_are_written_down_differently(desk: Desk) -> None:
    first, second, again = desk.ask(request(30.0, 1), request(30.0, 2), request(30.0, 1))
    assert without_timings(first) == without_timings(again)
    assert [one.text for one in first.segments] != [one.text for one in second.segments]
