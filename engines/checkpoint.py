"""What a folder with a model in it is, from the folder's own files; no weights are read."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import msgspec

from engines.errors import CheckpointUnusable
from engines.types import Capability

Json = Mapping[str, object]

CHAT_ARCHITECTURES = frozenset(
    "cohere cohere2 gemma gemma2 gemma3 gemma3_text granite llama mistral olmo2 phi phi3 qwen2 qwen2_moe qwen3 "
    "qwen3_moe smollm3 starcoder2".split()
)
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
_SHARD = re.compile(r"model-\d{5}-of-(\d{5})\.safetensors")


class Checkpoint(msgspec.Struct, frozen=True):
    """A model on disk. Sizes are bytes, `context_length` is tokens (0 if config.json doesn't say).

    A sequence of n tokens needs `kv_bytes_fixed + n * kv_bytes_per_token` bytes of cache at most; the fixed part is
    for layers whose attention is bounded by a window. `missing` says in words what a complete checkpoint has besides.
    """

    folder: str
    architecture: str
    capability: Capability | None
    weights_bytes: int
    kv_bytes_per_token: int
    kv_bytes_fixed: int
    context_length: int
    missing: tuple[str, ...] = ()


def inspect(folder: Path) -> Checkpoint:
    """Raises `CheckpointUnusable`, naming the file, for a file that can't be read or understood."""
    config = _read(folder / "config.json")
    architecture = config.get("model_type")
    architecture = architecture if isinstance(architecture, str) else ""
    writes_text = architecture in CHAT_ARCHITECTURES
    has_template = _has_template(folder)
    shards = [path for path in sorted(folder.glob("model*.safetensors")) if _is_whole(path)]
    missing = [
        name for name in ("config.json", "tokenizer.json", "tokenizer_config.json") if not _is_whole(folder / name)
    ]
    if writes_text and not has_template:
        missing.append("a chat template")
    missing += _missing_weights(folder, shards)
    per_token, fixed = (0, 0) if not writes_text else _kv_bytes(folder, config)
    return Checkpoint(
        folder=str(folder),
        architecture=architecture,
        capability="chat" if writes_text else None,
        weights_bytes=sum(path.stat().st_size for path in shards),
        kv_bytes_per_token=per_token,
        kv_bytes_fixed=fixed,
        context_length=_number(folder, _text_config(config), "max_position_embeddings"),
        missing=tuple(missing),
    )


def eos_ids(folder: Path) -> frozenset[int]:
    """The tokens that end an answer: the generation configuration's override the model's."""
    generation, config = _read(folder / "generation_config.json"), _read(folder / "config.json")
    ids = generation.get("eos_token_id", config.get("eos_token_id"))
    return frozenset([ids] if isinstance(ids, int) else ids if isinstance(ids, list) else [])


def _read(path: Path) -> Json:
    """The object in a JSON file; empty when there is no such file."""
    if not path.is_file():
        return {}
    try:
        value = msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError, OSError, RecursionError) as error:
        raise CheckpointUnusable(f"{path} can't be read: {error}. Fetch the model again.") from error
    if not isinstance(value, dict):
        raise CheckpointUnusable(f"{path} isn't a JSON object. Fetch the model again.")
    return cast(Json, value)


def _is_whole(path: Path) -> bool:
    """There, with content, and not a link to a download that hasn't ended."""
    return path.is_file() and path.stat().st_size > 0 and path.resolve().suffix != ".incomplete"


def _has_template(folder: Path) -> bool:
    if any(_is_whole(folder / name) for name in ("chat_template.jinja", "chat_template.json")):
        return True
    return bool(_read(folder / "tokenizer_config.json").get("chat_template"))


def _missing_weights(folder: Path, shards: list[Path]) -> list[str]:
    there = {path.name for path in shards}
    expected: set[str] = set()
    weight_map = _read(folder / "model.safetensors.index.json").get("weight_map", {})
    if isinstance(weight_map, dict):
        expected |= {str(name) for name in weight_map.values()}
    for name in there:
        if match := _SHARD.fullmatch(name):
            count = match[1]
            expected |= {f"model-{number:05}-of-{count}.safetensors" for number in range(1, int(count) + 1)}
    absent = sorted(name for name in expected if name not in there and not _is_whole(folder / name))
    if not absent and not there:
        return ["weights (model*.safetensors)"]
    return absent


def _text_config(config: Json) -> Json:
    nested = config.get("text_config")
    merged = {**config, **nested} if isinstance(nested, dict) else dict(config)
    if config.get("model_type") in ("gemma3", "gemma3_text"):
        return {**_GEMMA3, **{key: value for key, value in merged.items() if value is not None}}
    return merged


def _number(folder: Path, config: Json, key: str, default: int = 0) -> int:
    value = config.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise CheckpointUnusable(f"{folder / 'config.json'}: {key} is {value!r}, not a whole number.")
    return value


def _kv_bytes(folder: Path, whole: Json) -> tuple[int, int]:
    """Bytes of cache for each token, and for all of the windows together."""
    config = _text_config(whole)
    layers = _number(folder, config, "num_hidden_layers")
    heads = _number(folder, config, "num_attention_heads")
    kv_heads = _number(folder, config, "num_key_value_heads", heads)
    head_dim = _number(folder, config, "head_dim") or _number(folder, config, "hidden_size") // max(heads, 1)
    dtype = config.get("dtype") or config.get("torch_dtype")
    per_layer = 2 * kv_heads * head_dim * (4 if dtype == "float32" else 2)
    if whole.get("model_type") not in ("gemma3", "gemma3_text"):
        return layers * per_layer, 0
    pattern = max(_number(folder, config, "sliding_window_pattern"), 1)
    full = layers // pattern
    return full * per_layer, (layers - full) * per_layer * _number(folder, config, "sliding_window")
