"""Loading: half a model is no model."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from demo.voice_checkpoints import make_qwen3_tts, make_qwen3_tts_base
from engines.models import checkpoint
from engines.runner.loaders import Loaders
from engines.runner.qwen3_tts import model as models
from engines.runner.qwen3_tts.engine import VoiceEngine
from engines.runner.qwen3_tts.prompt import UtteranceWriter
from engines.runner.qwen3_tts.sampling import Choosing, choose, noise, penalised
from engines.types.audio import UtteranceRequest
from engines.types.errors import CheckpointUnusable


def without(file: Path, *names: str) -> None:
    """Take weights out of a file."""
    weights = mx.load(str(file))
    assert isinstance(weights, dict)
    kept = {name: mx.array(np.array(weight)) for name, weight in weights.items() if name not in names}
    assert len(kept) == len(weights) - len(names)
    mx.save_safetensors(str(file), kept)


def misshape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["talker_config"]["intermediate_size"] = 96
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def leave_encoder_out(folder: Path) -> None:
    path = folder / "speech_tokenizer" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    del config["encoder_config"]
    path.write_text(json.dumps(config), encoding="utf-8")


CODEC = "speech_tokenizer"
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a weight of the talker": (
        lambda folder: without(folder / "model.safetensors", "talker.codec_head.weight"),
        "codec_head",
    ),
    "a weight of the codec": (
        lambda folder: without(folder / CODEC / "model.safetensors", "decoder.pre_conv.conv.bias"),
        "pre_conv",
    ),
    "a codebook": (
        lambda folder: without(
            folder / CODEC / "model.safetensors", "decoder.quantizer.rvq_rest.vq.layers.3._codebook.embedding_sum"
        ),
        "codebook",
    ),
    "a weight of the encoder": (
        lambda folder: without(folder / CODEC / "model.safetensors", "encoder.downsample.conv.weight"),
        "encoder_model",
    ),
    "the codec": (lambda folder: (folder / CODEC / "config.json").unlink(), "speech_tokenizer"),
    "the codec's weights": (lambda folder: (folder / CODEC / "model.safetensors").unlink(), "no weights"),
    "the talker's weights": (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
    "the encoder": (leave_encoder_out, "no encoder"),
    "the right shape": (misshape, "shape"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_model_that_lacks_anything_is_unusable(damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    make_qwen3_tts_base(tmp_path)
    damage(tmp_path)
    with pytest.raises(CheckpointUnusable, match=message):
        models.load(tmp_path)


def test_a_model_in_8_bits_has_the_same_in_mind(tmp_path: Path) -> None:
    make_qwen3_tts(tmp_path)
    prompt = UtteranceWriter.read(tmp_path, 4096).write(UtteranceRequest("tts", "Good morning!", voice="ryan"))
    model = models.load(tmp_path)
    before = model.prefill(model.embed(prompt, None), model.new_cache())
    quantise(tmp_path, model)
    small = models.load(tmp_path)
    assert "scales" in small._talker.codec_head
    after = small.prefill(small.embed(prompt, None), small.new_cache())
    assert np.allclose(np.array(after), np.array(before), atol=0.1 * np.abs(np.array(before)).max())


def quantise(folder: Path, model: models.VoiceModel) -> None:
    """In place, as the published ones are."""
    how = {"group_size": 64, "bits": 8}
    module = model._module

    def chosen(path: str, part: Any) -> bool:
        return hasattr(part, "to_quantized") and bool(module.model_quant_predicate(path, part))

    nn: Any = importlib.import_module("mlx.nn")
    nn.quantize(module, **how, class_predicate=chosen)
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(module.parameters())))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "quantization": how}), encoding="utf-8")


def test_a_runner_finds_its_parts(tmp_path: Path) -> None:
    make_qwen3_tts(tmp_path)
    seen = checkpoint.inspect(tmp_path)
    assert (seen.capability, seen.missing) == ("speech", ())
    assert isinstance(Loaders().preparer(tmp_path, 4096), UtteranceWriter)
    engine = Loaders().engine(tmp_path, 1 << 20)
    assert isinstance(engine, VoiceEngine)
    assert seen.kv_bytes_per_token == engine._model.position_bytes


def test_nothing_is_printed_by_loading(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_qwen3_tts_base(tmp_path)
    models.load(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_the_same_bytes_are_written_again_and_they_are_few(tmp_path: Path) -> None:
    for name in ("first", "second"):
        make_qwen3_tts_base(tmp_path / name)
    files = [path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*") if path.is_file()]
    assert len(files) == 7
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()
    assert sum((tmp_path / "first" / file).stat().st_size for file in files) < 6e6


def test_codes_are_drawn_as_their_probabilities_say() -> None:
    logits = mx.log(mx.array([[0.5, 0.25, 0.15, 0.1]] * 2000))
    draws = mx.stack([noise(seed, 0, 4) for seed in range(2000)])
    plain = np.bincount(np.array(choose(logits, draws, Choosing(1.0, 0))), minlength=4) / 2000
    assert np.allclose(plain, [0.5, 0.25, 0.15, 0.1], atol=0.04)
    two = np.bincount(np.array(choose(logits, draws, Choosing(1.0, 2))), minlength=4) / 2000
    assert np.allclose(two, [2 / 3, 1 / 3, 0, 0], atol=0.04)
    nucleus = np.bincount(np.array(choose(logits, draws, Choosing(1.0, 0, 0.6))), minlength=4) / 2000
    assert np.allclose(nucleus, [2 / 3, 1 / 3, 0, 0], atol=0.04)


def test_a_penalty_is_each_rows_own() -> None:
    logits = mx.array([[2.0, -2.0, 1.0]] * 3)
    after = penalised(logits, [[0, 1, 1], [2], []], [2.0, 1.0, 2.0])
    assert np.array(after).tolist() == [[1.0, -4.0, 1.0], [2.0, -2.0, 1.0], [2.0, -2.0, 1.0]]
