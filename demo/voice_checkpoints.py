"""Qwen3-TTS checkpoints in miniature: the architecture is genuine, 12 Hz codec included.

One was trained (docs/demo-models.md). The others have random weights: what they say is noise, of a length that has
nothing to do with the text. The codec upsamples without residual units, because MLX's convolutions at 24 kHz are slow
on a CPU. The same call always writes the same bytes. Nothing of MLX is needed: the names and shapes of random weights
stand in a table (`training/voice_weights.py` writes it).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Tokenizer

from demo import checkpoints
from demo.checkpoints import byte_level_tokenizer, stored, write_files, write_weights

Array = npt.NDArray[np.float32]
Kind = Literal["custom_voice", "base"]
Json = dict[str, Any]
KINDS: tuple[Kind, ...] = get_args(Kind)

WEIGHTS = Path(__file__).parent / "voice_weights.json"
CORPUS = Path(__file__).parent / "corpus.txt"
VOCABULARY = 1200
HEADS, KV_HEADS, HEAD_DIM = 4, 2, 32


@dataclass(frozen=True)
class VoiceSize:
    """The dimensions of a model and its codec; `ratios`, of which each is less than `latent`, make 1920.

    `speaker` is the only one: all names are his. Without him each name has its own.
    """

    hidden: int
    intermediate: int
    layers: int
    groups: int
    codes: int
    rope_theta: float
    latent: int
    ratios: tuple[int, ...]
    speaker: str = ""


RANDOM = VoiceSize(64, 128, layers=2, groups=16, codes=64, rope_theta=1_000_000.0, latent=16, ratios=(4, 4, 5, 4, 6))
TRAINED = VoiceSize(
    128, 320, layers=4, groups=4, codes=256, rope_theta=10_000.0, latent=24, ratios=(8, 12, 20), speaker="ryan"
)
# The model may choose among the codes and the end alone: the last 1024 ids of its vocabulary are control tokens.
CONTROL = 1024
CODES = RANDOM.codes
CONTROLS = ("bos_id", "pad_id", "eos_token_id", "think_id", "nothink_id", "think_bos_id", "think_eos_id")
BOS, PAD, EOS = range(CODES, CODES + 3)
LANGUAGES = tuple("chinese english german italian portuguese spanish japanese korean french russian".split())
DIALECTS = ("beijing_dialect", "sichuan_dialect")
SPEAKERS = ("serena", "vivian", "uncle_fu", "ryan", "aiden", "ono_anna", "sohee", "eric", "dylan")
SPOKEN_DIALECTS = {"eric": "sichuan_dialect", "dylan": "beijing_dialect"}
# Of control tokens, counted from the first.
FIRST_LANGUAGE, FIRST_SPEAKER = 10, 40
LONGEST = 2048


def make_qwen3_tts(folder: Path, *, size: str = "1b7") -> None:
    """Writes a checkpoint with nine named voices (CustomVoice), float32, of about 2 MB.

    Models of size "0b6" take no instructions.
    """
    _make(folder, "custom_voice", size)


def make_qwen3_tts_base(folder: Path) -> None:
    """Writes a checkpoint that imitates voices (Base): as the other, with encoders of speakers and of sound; 3 MB."""
    _make(folder, "base", "1b7")


def trained_qwen3_tts(folder: Path, source: Path = checkpoints.WEIGHTS) -> None:
    """Writes a CustomVoice checkpoint whose nine names are one robot's, who knows a few dozen words; float32."""
    words = Tokenizer.from_file(str(source / "qwen3-tts.tokenizer.json"))
    write_qwen3_tts(folder, words, "custom_voice", "1b7", TRAINED)
    weights = stored(source / "qwen3-tts.safetensors")
    for path, prefix in ((folder, "model."), (folder / "speech_tokenizer", "codec.")):
        own = {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
        write_weights(path / "model.safetensors", own)


def _make(folder: Path, kind: Kind, size: str) -> None:
    write_qwen3_tts(folder, tokenizer(), kind, size, RANDOM)
    table = json.loads(WEIGHTS.read_text(encoding="utf-8"))[kind]
    write_weights(folder / "model.safetensors", _random(table["model"]))
    write_weights(folder / "speech_tokenizer" / "model.safetensors", _random(table["codec"]))


def write_qwen3_tts(folder: Path, words: Tokenizer, kind: Kind, size: str, shape: VoiceSize) -> None:
    """All of a checkpoint but its weights, of the model and of its codec."""
    tokenizer_config = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    generation = {"temperature": 0.9, "top_k": 50, "top_p": 1.0, "repetition_penalty": 1.05, "max_new_tokens": LONGEST}
    write_files(folder, config(words, kind, size, shape), words, tokenizer_config, generation)
    codec = folder / "speech_tokenizer"
    codec.mkdir(exist_ok=True)
    (codec / "config.json").write_text(json.dumps(codec_config(kind, shape), indent=2) + "\n", encoding="utf-8")


def tokenizer(texts: Sequence[str] | None = None, vocabulary: int = VOCABULARY) -> Tokenizer:
    """As Qwen models have it. "assistant" and "user" are words of it, as the model's prompt needs them to be."""
    texts = CORPUS.read_text(encoding="utf-8").splitlines(keepends=True) if texts is None else texts
    tokenizer = byte_level_tokenizer(texts, vocabulary)
    tokenizer.add_tokens([AddedToken(word, special=False, normalized=False) for word in ("assistant", "user")])
    special = ("<tts_pad>", "<tts_text_bos>", "<tts_text_eod>")
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def config(tokenizer: Tokenizer, kind: Kind, size: str, shape: VoiceSize = RANDOM) -> Json:
    layers = {
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "num_code_groups": shape.groups,
        "rms_norm_eps": 1e-6,
        "rope_theta": shape.rope_theta,
    }
    custom = kind == "custom_voice"
    control = range(shape.codes, shape.codes + CONTROL)
    talker = {
        **layers,
        "torch_dtype": "float32",
        "num_hidden_layers": shape.layers,
        "vocab_size": shape.codes + CONTROL,
        "text_hidden_size": shape.hidden,
        "text_vocab_size": tokenizer.get_vocab_size(),
        "max_position_embeddings": 32768,
        "rope_scaling": {"interleaved": True, "mrope_section": [6, 5, 5], "rope_type": "default"},
        **{f"codec_{name}": control[place] for place, name in enumerate(CONTROLS)},
        "codec_language_id": {
            name: control[FIRST_LANGUAGE + place] for place, name in enumerate((*LANGUAGES, *DIALECTS))
        },
        "spk_id": {name: control[FIRST_SPEAKER + SPEAKERS.index(shape.speaker or name)] for name in SPEAKERS if custom},
        "spk_is_dialect": {name: SPOKEN_DIALECTS.get(name, False) for name in SPEAKERS} if custom else {},
        "code_predictor_config": {**layers, "num_hidden_layers": 1, "vocab_size": shape.codes},
    }
    return {
        "architectures": ["Qwen3TTSForConditionalGeneration"],
        "model_type": "qwen3_tts",
        "torch_dtype": "float32",
        "tokenizer_type": "qwen3_tts_tokenizer_12hz",
        "tts_model_type": kind,
        "tts_model_size": size,
        "im_start_token_id": tokenizer.token_to_id("<|im_start|>"),
        "im_end_token_id": tokenizer.token_to_id("<|im_end|>"),
        "assistant_token_id": tokenizer.token_to_id("assistant"),
        "tts_pad_token_id": tokenizer.token_to_id("<tts_pad>"),
        "tts_bos_token_id": tokenizer.token_to_id("<tts_text_bos>"),
        "tts_eos_token_id": tokenizer.token_to_id("<tts_text_eod>"),
        "talker_config": talker,
        # The library tells convolutions of one sample by more than 64 channels: hence 72.
        "speaker_encoder_config": {
            "enc_dim": shape.hidden,
            "enc_channels": [72, 72, 72, 72, 216],
            "enc_attention_channels": 72,
            "enc_se_channels": 72,
            "sample_rate": 24_000,
        },
    }


def codec_config(kind: Kind, shape: VoiceSize = RANDOM) -> Json:
    encoder = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "num_filters": 4,
        "codebook_size": shape.codes,
        "codebook_dim": 16,
        "num_quantizers": shape.groups,
        "upsampling_ratios": [8, 6, 5, 4],
    }
    decoder = {
        "latent_dim": shape.latent,
        "codebook_dim": 144,
        "codebook_size": shape.codes,
        "decoder_dim": 16,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "num_quantizers": shape.groups,
        "upsample_rates": [],
        "upsampling_ratios": list(shape.ratios),
    }
    return {
        "model_type": "qwen3_tts_tokenizer_12hz",
        **({"encoder_config": encoder} if kind == "base" else {}),
        "decoder_config": decoder,
        "input_sample_rate": 24_000,
        "output_sample_rate": 24_000,
        "decode_upsample_rate": 1920,
        "encode_downsample_rate": 1920,
    }


def _random(table: Mapping[str, tuple[Sequence[int], float | None]]) -> dict[str, Array]:
    """Weights by name: scattered about nought; without a scatter they are ones."""
    generator = np.random.default_rng(7)
    return {
        name: np.ones(shape, np.float32)
        if scatter is None
        else generator.standard_normal(shape, np.float32) * np.float32(scatter)
        for name, (shape, scatter) in table.items()
    }
