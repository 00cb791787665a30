"""The architectures that can be run: what the server must know of each, and where a runner finds the rest.

To add one is to add a folder with a `loader` (see `engines.runner.loaders`) and an entry here.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from engines.host.system import Host
from engines.models import kv_size, required_files
from engines.models.config import Json, number, text_config
from engines.models.kv_size import KvSize
from engines.models.model_files import read_json
from engines.models.voices import voices_of
from engines.models.work_space import LEAST, work_space
from engines.types.audio import Voice
from engines.types.common import Capability

# Sound is cut into pieces of at most so many tokens, of which so many are in work together.
PIECE_TOKENS, PIECES = 4096, 4
_MLX_WHISPER = frozenset({"n_mels", "n_audio_state", "n_text_layer", "n_vocab"})
WHISPER_MULTILINGUAL = 51865  # ids: Whispers of this size and larger know many languages


class Pieces(msgspec.Struct, frozen=True):
    """Of a model that transcribes. `seconds`: the longest piece of a recording that it is given. `context`: characters
    of a prompt that fit. `word_times`: it finds the times of words by itself."""

    seconds: float = 30.0
    context: int = 0
    word_times: bool = False


def _never(folder: Path, config: Json) -> bool:
    return False


def _least(config: Json) -> int:
    return LEAST


def _plainly(config: Json) -> str:
    return ""


def _no_voices(folder: Path) -> Sequence[Voice]:
    return ()


class Architecture(msgspec.Struct, frozen=True):
    """A kind of model.

    `model_types` are those of config.json; where that doesn't say it plainly, `recognises` gives the one that is meant,
    "" if it is of another kind. `loader` is the module that makes its preparer and its engine, in a runner.
    `kv_size`, `missing`, `translates` and `work_bytes` read a checkpoint's folder or configuration. `weights` are glob
    patterns. `rows` caches of `row_tokens` (0: as long as the context) are the room that it would like. `voices`
    are those of a folder's model that speaks. `has_long_steps`: they take longer than a chat's token, and are computed
    in slices beside others (`runner.time_slice`). `defaults` are names that are known from the start, and the
    repositories they stand for.
    """

    model_types: frozenset[str]
    capability: Capability
    loader: str
    kv_size: Callable[[Path, Json], KvSize]
    missing: Callable[[Path], list[str]]
    weights: tuple[str, ...] = ("model*.safetensors",)
    rows: int = PIECES
    row_tokens: int = PIECE_TOKENS
    pieces: Pieces = Pieces()
    translates: Callable[[Path, Json], bool] = _never
    work_bytes: Callable[[Json], int] = _least
    defaults: Mapping[str, str] = {}
    recognises: Callable[[Json], str] = _plainly
    voices: Callable[[Path], Sequence[Voice]] = _no_voices
    has_long_steps: bool = False


Architectures = tuple[Architecture, ...]


def find(architectures: Architectures, config: Json) -> tuple[str, Architecture | None]:
    """The model type of a config.json, "" if it names none, and its entry, None if it can't be run."""
    for entry in architectures:
        if model_type := entry.recognises(config):
            return model_type, entry
    declared = config.get("model_type")
    model_type = declared if isinstance(declared, str) else ""
    return model_type, next((entry for entry in architectures if model_type in entry.model_types), None)


def default_names(architectures: Architectures) -> dict[str, tuple[str, Capability]]:
    """Names that are known from the start: what each stands for, and what that does."""
    return {
        name: (repository, entry.capability) for entry in architectures for name, repository in entry.defaults.items()
    }


def _chat_work(config: Json) -> int:
    return work_space(text_config(config), Host().computes_on_gpu)


def _untyped_whisper(config: Json) -> str:
    """Some of mlx-whisper's configurations have no `model_type`."""
    return "whisper" if config.get("model_type") is None and _MLX_WHISPER <= config.keys() else ""


def _aligner(config: Json) -> str:
    """The aligner calls itself qwen3_asr, and is told from it by the part within."""
    thinker = config.get("thinker_config")
    within = thinker.get("model_type") if isinstance(thinker, dict) else None
    return "qwen3_forced_aligner" if within == "qwen3_forced_aligner" else ""


def _whisper_translates(folder: Path, config: Json) -> bool:
    """Whether a Whisper was taught to translate.

    OpenAI's models for many languages were, and have as many layers in the decoder as in the encoder. Those whose
    decoder was cut down afterwards (turbo, distil) were taught to write down alone, and do so whatever they are asked.
    """
    size = number(folder, config, "n_vocab") or number(folder, config, "vocab_size")
    listens = number(folder, config, "n_audio_layer") or number(folder, config, "encoder_layers")
    writes = number(folder, config, "n_text_layer") or number(folder, config, "decoder_layers")
    tasks = read_json(folder / "generation_config.json").get("task_to_id")
    is_taught = not isinstance(tasks, dict) or "translate" in tasks
    return size >= WHISPER_MULTILINGUAL and writes >= listens and is_taught


CHAT = Architecture(
    model_types=frozenset(
        "cohere cohere2 gemma gemma2 gemma3 gemma3_text granite llama mistral olmo2 phi phi3 qwen2 qwen2_moe qwen3 "
        "qwen3_moe smollm3 starcoder2".split()
    ),
    capability="chat",
    loader="engines.runner.chat.loader",
    kv_size=kv_size.transformer,
    missing=required_files.chat,
    rows=1,
    row_tokens=0,
    work_bytes=_chat_work,
    defaults={
        "qwen3-14b": "mlx-community/Qwen3-14B-4bit",
        "gemma-3-12b": "mlx-community/gemma-3-12b-it-qat-4bit",
    },
)
QWEN3_ASR = Architecture(
    model_types=frozenset({"qwen3_asr"}),
    capability="transcription",
    has_long_steps=True,
    loader="engines.runner.qwen3_asr.loader",
    kv_size=kv_size.transformer,
    missing=required_files.tokenizer,
    # A minute is context enough, and a hallucination loop or a limit costs no more than that.
    pieces=Pieces(seconds=60.0, context=2000),
    defaults={"qwen3-asr": "mlx-community/Qwen3-ASR-1.7B-8bit"},
)
WHISPER = Architecture(
    model_types=frozenset({"whisper"}),
    capability="transcription",
    has_long_steps=True,
    loader="engines.runner.whisper.loader",
    kv_size=kv_size.whisper,
    missing=required_files.whisper,
    weights=("model*.safetensors", "weights.safetensors", "weights.npz"),
    # It reads windows of half a minute; its decoder has 224 tokens for a prompt.
    pieces=Pieces(seconds=30.0, context=500, word_times=True),
    translates=_whisper_translates,
    recognises=_untyped_whisper,
    defaults={
        "whisper-large-v3-turbo": "mlx-community/whisper-large-v3-turbo-asr-fp16",
        "whisper-large-v3": "mlx-community/whisper-large-v3-asr-fp16",
    },
)
ALIGNER = Architecture(
    model_types=frozenset({"qwen3_forced_aligner"}),
    capability="alignment",
    has_long_steps=True,
    loader="engines.runner.aligner.loader",
    recognises=_aligner,
    kv_size=kv_size.transformer,
    missing=required_files.tokenizer,
    defaults={"qwen3-aligner": "mlx-community/Qwen3-ForcedAligner-0.6B-8bit"},
)
QWEN3_TTS = Architecture(
    model_types=frozenset({"qwen3_tts"}),
    capability="speech",
    has_long_steps=True,
    loader="engines.runner.qwen3_tts.loader",
    voices=voices_of,
    kv_size=kv_size.transformer,
    missing=required_files.speech,
    weights=("model*.safetensors", "speech_tokenizer/*.safetensors"),
    defaults={
        "qwen3-tts": "mlx-community/Qwen3-TTS-12Hz-1.7B-CustomVoice-8bit",
        "qwen3-tts-base": "mlx-community/Qwen3-TTS-12Hz-1.7B-Base-8bit",
    },
)

ARCHITECTURES: Architectures = (CHAT, QWEN3_ASR, WHISPER, ALIGNER, QWEN3_TTS)
DEFAULTS = default_names(ARCHITECTURES)
