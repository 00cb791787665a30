"""How much memory a sequence's KV cache takes, by architecture, from config.json."""

from pathlib import Path
from typing import NamedTuple

from engines.models.config import Json, number, text_config

# What half a minute of sound, and the text of it, take in a Whisper decoder.
_WHISPER_POSITIONS = 1500 + 448


class KvSize(NamedTuple):
    """Bytes for each token, and for all layers whose attention is bounded by a window together."""

    per_token: int = 0
    fixed: int = 0


def whisper(folder: Path, config: Json) -> KvSize:
    """The decoder's, for one window of sound."""
    layers = number(folder, config, "n_text_layer") or number(folder, config, "decoder_layers")
    width = number(folder, config, "n_text_state") or number(folder, config, "d_model")
    return KvSize(0, 2 * 2 * layers * width * _WHISPER_POSITIONS)


def transformer(folder: Path, whole: Json) -> KvSize:
    """Keys and values of every layer; Gemma 3 has windows in all but each `sliding_window_pattern`-th."""
    config = text_config(whole)
    layers = number(folder, config, "num_hidden_layers")
    heads = number(folder, config, "num_attention_heads")
    kv_heads = number(folder, config, "num_key_value_heads", heads)
    head_dim = number(folder, config, "head_dim") or number(folder, config, "hidden_size") // max(heads, 1)
    dtype = config.get("dtype") or config.get("torch_dtype")
    per_layer = 2 * kv_heads * head_dim * (4 if dtype == "float32" else 2)
    if whole.get("model_type") not in ("gemma3", "gemma3_text"):
        return KvSize(layers * per_layer)
    pattern = max(number(folder, config, "sliding_window_pattern"), 1)
    full = layers // pattern
    window = number(folder, config, "sliding_window")
    return KvSize(full * per_layer, (layers - full) * per_layer * window)
