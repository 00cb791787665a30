"""Reading a model's config.json: numbers that are checked, and what families leave out."""

from collections.abc import Mapping
from pathlib import Path

from engines.models.model_files import read_json
from engines.models.rope_scaling import context_length
from engines.types.errors import CheckpointUnusable

Json = Mapping[str, object]

# Gemma 3's published configurations leave out whatever equals these.
_GEMMA3 = {
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window": 4096,
    "sliding_window_pattern": 6,
    "max_position_embeddings": 131072,
}


def text_config(config: Json) -> Json:
    """The part that describes the layers which read and write tokens."""
    for name in ("thinker_config", "talker_config"):
        if isinstance(inner := config.get(name), dict):
            config = inner
    nested = config.get("text_config")
    merged = {**config, **nested} if isinstance(nested, dict) else dict(config)
    if config.get("model_type") in ("gemma3", "gemma3_text"):
        return {**_GEMMA3, **{key: value for key, value in merged.items() if value is not None}}
    return merged


def number(folder: Path, config: Json, key: str, default: int = 0) -> int:
    """A whole number, 0 or more. Raises `CheckpointUnusable` for anything else."""
    value = config.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise CheckpointUnusable(f"{folder / 'config.json'}: {key} is {value!r}, not a whole number.")
    return value


def positions(folder: Path, config: Json) -> int:
    """Tokens of prompt and answer that it was made for; 0 if config.json doesn't say."""
    text = text_config(config)
    number(folder, text, "max_position_embeddings")
    return context_length(text)


def eos_ids(folder: Path) -> frozenset[int]:
    """The tokens that end an answer: the generation configuration's override the model's. Empty if both name none."""
    config = read_json(folder / "config.json")
    for held in (read_json(folder / "generation_config.json"), config, text_config(config)):
        given = held.get("eos_token_id")
        ids = [id for id in (given if isinstance(given, list) else [given]) if type(id) is int and id >= 0]
        if ids:
            return frozenset(ids)
    return frozenset()
