"""Writes `demo/voice_weights.json`: the names and shapes of a Qwen3-TTS checkpoint's weights, as the library has them.

Needs MLX, which takes two seconds to import: so the checkpoints are made from the table, and this is run when their
configuration, or the library, changes: `python -m training.voice_weights`. A test compares the two.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx.utils import tree_flatten
from mlx_audio.tts.models.qwen3_tts.config import ModelConfig, Qwen3TTSTokenizerConfig
from mlx_audio.tts.models.qwen3_tts.qwen3_tts import Model
from mlx_audio.tts.models.qwen3_tts.speech_tokenizer import Qwen3TTSSpeechTokenizer

from demo.voice_checkpoints import KINDS, WEIGHTS, Kind, codec_config, config, tokenizer

Array = npt.NDArray[np.float32]
Json = dict[str, Any]
Stored = Callable[[str, Array], Mapping[str, Array]]
Sanitize = Callable[[dict[str, mx.array]], dict[str, mx.array]]
LAST, LOUDNESS = "decoder.decoder.2.conv.weight", 0.008  # so that the noise is as loud as speech, and isn't clipped
TRANSFORMER_NAMES = {
    "self_attn.out_proj": "self_attn.o_proj",
    "gating.linear": "mlp.fc",
    "norm1": "input_layernorm",
    "norm2": "post_attention_layernorm",
    "layer_scale_1": "self_attn_layer_scale",
    "layer_scale_2": "mlp_layer_scale",
}


def measured(kind: Kind) -> Json:
    """Of the model and of its codec: the shape of each weight, and how far it is scattered (None: 1, 0: nought)."""
    model = Model(ModelConfig.from_dict(json.loads(json.dumps(config(tokenizer(), kind, "1b7")))))
    return {
        "model": _described(_scattered(model), lambda name, weight: _stored(name, weight, Model.sanitize)),
        "codec": _described(_scattered(_codec(codec_config(kind))), _codec_weight),
    }


def _codec(parts: Json) -> Qwen3TTSSpeechTokenizer:
    known = {part: parts[part] for part in ("encoder_config", "decoder_config") if part in parts}
    return Qwen3TTSSpeechTokenizer(Qwen3TTSTokenizerConfig(**known))


def stored_model(weights: Mapping[str, Array]) -> dict[str, Array]:
    """Weights of the library's model under the names, and in the layout, of a published checkpoint."""
    return {
        place: array
        for name, weight in weights.items()
        for place, array in _stored(name, weight, Model.sanitize).items()
    }


def stored_codec(weights: Mapping[str, Array]) -> dict[str, Array]:
    """As `stored_model`, of the codec. Codebooks are as if each code had been used once."""
    return {
        place: np.ones_like(array) if place.endswith("cluster_usage") else array
        for name, weight in weights.items()
        for place, array in _codec_weight(name, weight).items()
    }


def _scattered(module: Any) -> dict[str, tuple[Array, float | None]]:
    """A marked array of every parameter's shape, by name, and how it is to be drawn."""
    found: dict[str, tuple[Array, float | None]] = {}
    for name, parameter in sorted(dict(tree_flatten(module.parameters())).items()):
        shape = tuple(parameter.shape)
        count = int(np.prod(shape))
        found[name] = np.arange(count, dtype=np.float32).reshape(shape), _scatter(name, shape)
    return found


def _scatter(name: str, shape: tuple[int, ...]) -> float | None:
    if name.rpartition(".")[2] in ("bias", "alpha", "beta"):
        return 0.0
    if len(shape) == 1:
        return None
    if name == LAST:
        return LOUDNESS
    return 1.0 if "embed" in name or "codebook" in name else float(np.prod(shape[1:])) ** -0.5


def _described(
    found: Mapping[str, tuple[Array, float | None]], stored: Callable[[str, Array], Mapping[str, Array]]
) -> Json:
    return {
        place: [list(array.shape), None if place.endswith("cluster_usage") else scatter]
        for name, (weight, scatter) in found.items()
        for place, array in stored(name, weight).items()
    }


def _stored(name: str, weight: Array, sanitize: Sanitize) -> dict[str, Array]:
    """In the layout from which the library, which guesses it by shape, reads back what is meant."""
    (read,) = sanitize({name: mx.array(weight)}).values()
    return {name: weight if np.array_equal(np.array(read), weight) else weight.transpose(0, 2, 1)}


def _codec_weight(name: str, weight: Array) -> dict[str, Array]:
    """Under the names that the published checkpoints have."""
    if name.startswith("encoder_model."):
        return _encoder_weight(name.removeprefix("encoder_model."), weight)
    if name.endswith(".codebook.embed.weight"):
        base = name.removesuffix(".codebook.embed.weight")
        return {f"{base}._codebook.cluster_usage": weight[:, 0], f"{base}._codebook.embedding_sum": weight}
    return _stored(name, weight, Qwen3TTSSpeechTokenizer.sanitize)


def _encoder_weight(name: str, weight: Array) -> dict[str, Array]:
    """A weight of the encoder of sound: by other names, convolutions with the samples last."""
    if weight.ndim == 3:
        weight = weight.transpose(0, 2, 1)
    if name.startswith("encoder."):
        return {f"encoder.encoder.layers.{_place(name)}.conv.{name.rpartition('.')[2]}": weight}
    if name.startswith("downsample."):
        return {f"encoder.downsample.conv.{name.rpartition('.')[2]}": weight}
    if name.startswith("quantizer."):
        if name.endswith(".initialized"):
            return {}
        name = name.replace("rvq_first", "semantic_residual_vector_quantizer")
        name = name.replace("rvq_rest", "acoustic_residual_vector_quantizer").replace(".vq.", ".")
        return {f"encoder.{name.replace('embedding_sum', 'embed_sum')}": weight}
    layer, _, rest = name.removeprefix("encoder_transformer.transformer.layers.").partition(".")
    stem = f"encoder.encoder_transformer.layers.{layer}"
    if rest == "self_attn.in_proj.weight":
        parts = zip("qkv", np.split(weight, 3), strict=True)
        return {f"{stem}.self_attn.{kind}_proj.weight": part for kind, part in parts}
    for ours, theirs in TRANSFORMER_NAMES.items():
        rest = rest.replace(ours, theirs)
    return {f"{stem}.{rest}": weight}


def _place(name: str) -> str:
    """Where a convolution stands in the published model's list, in which every activation has a number too."""
    parts = name.split(".")
    if parts[1] != "layers":
        return "0" if parts[1] == "init_conv1d" else "14"
    layer = int(parts[2])
    return f"{3 * layer + 3}" if parts[3] == "downsample" else f"{3 * layer + 1}.block.{2 * int(parts[6]) + 1}"


def main() -> None:
    """Rewrites the table."""
    table = {kind: measured(kind) for kind in KINDS}
    lines = json.dumps(table, separators=(",", ":")).replace("],", "],\n")
    WEIGHTS.write_text(f"{lines}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
