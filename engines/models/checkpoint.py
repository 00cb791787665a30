"""What a folder with a model in it is, from the folder's own files; no weights are read."""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from engines.host.system import Host
from engines.models import foreign, sampling_defaults
from engines.models.model_files import is_whole, matching, read_json
from engines.models.rope_scaling import context_length
from engines.models.sampling_defaults import Defaults
from engines.models.weight_types import are_float32
from engines.models.work_space import LEAST, work_space
from engines.types.common import Capability
from engines.types.errors import CheckpointUnusable

Json = Mapping[str, object]

CHAT_ARCHITECTURES = frozenset(
    "cohere cohere2 gemma gemma2 gemma3 gemma3_text granite llama mistral olmo2 phi phi3 qwen2 qwen2_moe qwen3 "
    "qwen3_moe smollm3 starcoder2".split()
)
CAPABILITIES: Mapping[str, Capability] = {
    **dict.fromkeys(CHAT_ARCHITECTURES, "chat"),
    "qwen3_asr": "transcription",
    "whisper": "transcription",
    "qwen3_forced_aligner": "alignment",
    "qwen3_tts": "speech",
}
# Sound is cut into pieces of at most so many tokens, of which so many are in work together.
PIECE_TOKENS, PIECES = 4096, 4
# What half a minute of sound, and the text of it, take in a Whisper decoder.
_WHISPER_POSITIONS = 1500 + 448
WHISPER_MULTILINGUAL = 51865  # ids: Whispers of this size and larger know many languages
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
# What mlx-whisper's configurations say, some of them without a `model_type`.
_OPENAI_WHISPER = frozenset({"n_mels", "n_audio_state", "n_text_layer", "n_vocab"})
_SHARD = re.compile(r"model-\d{5}-of-(\d{5})\.safetensors")


class Checkpoint(msgspec.Struct, frozen=True):
    """A model on disk. Sizes are bytes, `context_length` is tokens (0 if config.json doesn't say).

    A sequence of n tokens needs `kv_bytes_fixed + n * kv_bytes_per_token` bytes of cache at most; the fixed part is
    for layers whose attention is bounded by a window. `changed` is when any of its files was, in nanoseconds.
    `missing` says in words what a complete checkpoint has besides; `foreign`, where it is none for MLX, what it is
    instead. `sampling` is how its makers would have it sampled. `translates`: what is spoken in many languages is
    written down in English, where that is asked for. `work_bytes` is what its passes need beside weights and cache.
    `is_float32`: no weight is quantised or in half precision.
    """

    folder: str
    architecture: str
    capability: Capability | None
    weights_bytes: int
    kv_bytes_per_token: int
    kv_bytes_fixed: int
    context_length: int
    missing: tuple[str, ...] = ()
    changed: int = 0
    foreign: str = ""
    sampling: Defaults = Defaults()
    translates: bool = False
    work_bytes: int = LEAST
    is_float32: bool = False

    def kv_wish(self, context_limit: int) -> int:
        """Bytes of cache that it would like to have: for one conversation as long as may be, or a few pieces."""
        tokens = min(context_limit, self.context_length or context_limit)
        if self.capability == "chat":
            return self.kv_bytes_fixed + self.kv_bytes_per_token * tokens
        return PIECES * (self.kv_bytes_fixed + self.kv_bytes_per_token * min(tokens, PIECE_TOKENS))


def inspect(folder: Path) -> Checkpoint:
    """Raises `CheckpointUnusable`, naming the file, for a file that can't be read or understood."""
    config = read_json(folder / "config.json")
    architecture = _architecture(config)
    capability = CAPABILITIES.get(architecture)
    shards = _weights(folder, "model*.safetensors")
    if architecture == "whisper":
        shards += [path for name in ("weights.safetensors", "weights.npz") if is_whole(path := folder / name)]
    other = foreign.pointers(folder) or foreign.quantised(config)
    other = other or (None if shards or _has_index(folder) else foreign.described(folder)) or ""
    per_token, fixed = (0, 0) if capability is None else _kv_bytes(folder, architecture, config)
    return Checkpoint(
        folder=str(folder),
        architecture=architecture,
        capability=capability,
        weights_bytes=sum(path.stat().st_size for path in [*shards, *_codec(folder)]),
        kv_bytes_per_token=per_token,
        kv_bytes_fixed=fixed,
        context_length=positions(folder, config),
        missing=(other,) if other else (*_missing(folder, architecture, capability), *_missing_weights(folder, shards)),
        changed=max((path.stat().st_mtime_ns for path in folder.iterdir() if path.exists()), default=0),
        foreign=other,
        sampling=sampling_defaults.of(read_json(folder / "generation_config.json")),
        translates=architecture == "whisper" and _whisper_translates(folder, config),
        work_bytes=work_space(text_config(config), Host().computes_on_gpu) if capability == "chat" else LEAST,
        is_float32=are_float32([*shards, *_codec(folder)], config),
    )


def positions(folder: Path, config: Json) -> int:
    """Tokens of prompt and answer that it was made for; 0 if config.json doesn't say."""
    text = text_config(config)
    _number(folder, text, "max_position_embeddings")
    return context_length(text)


def _weights(folder: Path, pattern: str) -> list[Path]:
    """The whole ones. Raises `CheckpointUnusable` for what is no file: to read it could last for ever."""
    found = matching(folder, pattern)
    for path in found:
        if path.exists() and not path.is_file():
            raise CheckpointUnusable(f"{path} is no file. Remove it, or fetch the model again.")
    return [path for path in found if is_whole(path)]


def _codec(folder: Path) -> list[Path]:
    return _weights(folder, "speech_tokenizer/*.safetensors")


def _whisper_translates(folder: Path, config: Json) -> bool:
    """Whether a Whisper was taught to translate.

    OpenAI's models for many languages were, and have as many layers in the decoder as in the encoder. Those whose
    decoder was cut down afterwards (turbo, distil) were taught to write down alone, and do so whatever they are asked.
    """
    size = _number(folder, config, "n_vocab") or _number(folder, config, "vocab_size")
    listens = _number(folder, config, "n_audio_layer") or _number(folder, config, "encoder_layers")
    writes = _number(folder, config, "n_text_layer") or _number(folder, config, "decoder_layers")
    tasks = read_json(folder / "generation_config.json").get("task_to_id")
    is_taught = not isinstance(tasks, dict) or "translate" in tasks
    return size >= WHISPER_MULTILINGUAL and writes >= listens and is_taught


def _architecture(config: Json) -> str:
    """What config.json says; the aligner of Qwen3-ASR says it one floor below."""
    thinker = config.get("thinker_config")
    below = thinker.get("model_type") if isinstance(thinker, dict) else None
    architecture = below if below == "qwen3_forced_aligner" else config.get("model_type")
    if architecture is None and _OPENAI_WHISPER <= config.keys():
        return "whisper"
    return architecture if isinstance(architecture, str) else ""


def _missing(folder: Path, architecture: str, capability: Capability | None) -> list[str]:
    """What is absent beside weights."""
    missing = [] if is_whole(folder / "config.json") else ["config.json"]
    older = all(is_whole(folder / name) for name in ("vocab.json", "merges.txt"))
    if not is_whole(folder / "tokenizer.json"):
        if architecture != "whisper" and not older:  # for Whisper, OpenAI's own vocabulary is at hand
            missing.append("tokenizer.json")
    if architecture != "whisper" and not is_whole(folder / "tokenizer_config.json"):
        missing.append("tokenizer_config.json")
    if capability == "chat" and not _has_template(folder):
        missing.append("a chat template")
    if capability == "speech":
        if not is_whole(folder / "speech_tokenizer" / "config.json"):
            missing.append("speech_tokenizer/config.json")
        if not _codec(folder):
            missing.append("weights of the codec (speech_tokenizer/*.safetensors)")
    return missing


def eos_ids(folder: Path) -> frozenset[int]:
    """The tokens that end an answer: the generation configuration's override the model's. Empty if both name none."""
    config = read_json(folder / "config.json")
    for held in (read_json(folder / "generation_config.json"), config, text_config(config)):
        given = held.get("eos_token_id")
        ids = [id for id in (given if isinstance(given, list) else [given]) if type(id) is int and id >= 0]
        if ids:
            return frozenset(ids)
    return frozenset()


def _has_template(folder: Path) -> bool:
    files = ("chat_template.jinja", "chat_template.json", "additional_chat_templates/default.jinja")
    if any(is_whole(folder / name) for name in files):
        return True
    return bool(read_json(folder / "tokenizer_config.json").get("chat_template"))


def _has_index(folder: Path) -> bool:
    return (folder / "model.safetensors.index.json").exists()


def _missing_weights(folder: Path, shards: list[Path]) -> list[str]:
    there = {path.name for path in shards}
    expected: set[str] = set()
    weight_map = read_json(folder / "model.safetensors.index.json").get("weight_map", {})
    if isinstance(weight_map, dict):
        expected |= {str(name) for name in weight_map.values()}
    for name in there:
        if match := _SHARD.fullmatch(name):
            count = match[1]
            expected |= {f"model-{number:05}-of-{count}.safetensors" for number in range(1, int(count) + 1)}
    absent = sorted(name for name in expected if name not in there and not is_whole(folder / name))
    if not absent and not there:
        return ["weights (model*.safetensors)"]
    return absent


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


def _number(folder: Path, config: Json, key: str, default: int = 0) -> int:
    value = config.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise CheckpointUnusable(f"{folder / 'config.json'}: {key} is {value!r}, not a whole number.")
    return value


def _kv_bytes(folder: Path, architecture: str, whole: Json) -> tuple[int, int]:
    """Bytes of cache for each token, and for all of the windows together."""
    if architecture == "whisper":
        layers = _number(folder, whole, "n_text_layer") or _number(folder, whole, "decoder_layers")
        width = _number(folder, whole, "n_text_state") or _number(folder, whole, "d_model")
        return 0, 2 * 2 * layers * width * _WHISPER_POSITIONS
    config = text_config(whole)
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
