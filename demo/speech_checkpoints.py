"""Genuine Qwen3-ASR and Qwen3-ForcedAligner checkpoints in miniature, with random weights; 777,000 parameters.

A word of the vocabulary is one token, with and without a blank before it; any other text is written in bytes. The same
call always writes the same bytes. Nothing of MLX is needed, unless for 8 bits.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from demo.checkpoints import (
    GROUP_SIZE,
    WEIGHTS,
    Array,
    Shapes,
    TransformerSize,
    byte_level_tokenizer,
    quantise,
    shapes_of,
    stored,
    write_files,
    write_weights,
)

SPOKEN = tuple("zero one two three four five six seven eight nine yes no stop go left right up down on off".split())
LANGUAGES = ("Chinese", "English", "Cantonese", "German", "Japanese")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_start|>", "<|audio_end|>", "<|audio_pad|>")
ADDED = ("<asr_text>", "<timestamp>")
ENOUGH = 100_000  # entries of a vocabulary, so that each word is whole
# What the template and the answers hold beside the words: so that the ends of tokens fall where they do in large ones.
FRAME = ("system", "user", "assistant", "language", "None")

MELS, HEAD = 64, 32


@dataclass(frozen=True)
class EncoderSize:
    """The dimensions of an encoder."""

    layers: int
    width: int
    heads: int
    inner: int
    channels: int


EAR = EncoderSize(layers=2, width=128, heads=4, inner=384, channels=16)
TEXT = TransformerSize(layers=2, hidden=128, intermediate=320, heads=4, kv_heads=2, head_dim=32)
# What is shipped trained. A small `rope_theta` shows small heads where their neighbours stand.
TRAINED_THETA = 10_000.0
TRAINED_LANGUAGES = ("Chinese", "English", "Cantonese")
NORMS = ("input_layernorm", "post_attention_layernorm")
CONTEXT_LENGTH = 4096
CLASSES, CLASS_MILLISECONDS = 5000, 80.0
# Random layers weigh so much more than their input, and attention looks so sharply: else a tied head repeats the last
# token, whatever was heard.
MIXING, SHARPNESS = 4.0, 3.0
BITS = 8
QUANTISED = {"quantization": {"group_size": GROUP_SIZE, "bits": BITS, "mode": "affine"}}


def make_qwen3_asr(
    folder: Path, words: Sequence[str] = SPOKEN, *, languages: Sequence[str] = LANGUAGES, quantised: bool = False
) -> None:
    """Writes a Qwen3-ASR checkpoint of 3 MB, float32, with random weights.

    `words` are tokens of their own; `languages` are the names that it supports. `quantised`: all of the text model in
    8 bits (needs MLX).
    """
    tokenizer = speech_tokenizer(words, languages)
    write_qwen3_asr(folder, tokenizer, languages, quantised=quantised)
    weights = random_speech_weights(asr_shapes(tokenizer.get_vocab_size()))
    write_weights(folder / "model.safetensors", _quantised(weights) if quantised else weights)


def make_aligner(
    folder: Path, words: Sequence[str] = SPOKEN, *, languages: Sequence[str] = LANGUAGES, quantised: bool = False
) -> None:
    """Writes a Qwen3-ForcedAligner checkpoint of 6 MB, float32, with random weights; else as `make_qwen3_asr`."""
    tokenizer = speech_tokenizer(words, languages)
    thinker = {
        "model_type": "qwen3_forced_aligner",
        "classify_num": CLASSES,
        "timestamp_segment_time": CLASS_MILLISECONDS,
        "timestamp_token_id": tokenizer.token_to_id("<timestamp>"),
    }
    extra = {"timestamp_token_id": thinker["timestamp_token_id"], **(QUANTISED if quantised else {})}
    write_speech_files(folder, tokenizer, languages, thinker, extra)
    weights = random_speech_weights(aligner_shapes(tokenizer.get_vocab_size()))
    write_weights(folder / "model.safetensors", _quantised(weights) if quantised else weights)


def trained_qwen3_asr(folder: Path, source: Path = WEIGHTS) -> None:
    """Writes the Qwen3-ASR checkpoint that writes down a few dozen words of three languages, float32."""
    tokenizer = Tokenizer.from_file(str(source / "qwen3-asr.tokenizer.json"))
    weights = stored(source / "qwen3-asr.safetensors")
    ear, size = dimensions({name: weight.shape for name, weight in weights.items()})
    write_qwen3_asr(folder, tokenizer, TRAINED_LANGUAGES, ear=ear, size=size)
    write_weights(folder / "model.safetensors", weights)


def dimensions(shapes: Shapes) -> tuple[EncoderSize, TransformerSize]:
    """Of a trained checkpoint, whose heads all have 32 dimensions."""
    inner, width = shapes["audio_tower.layers.0.fc1.weight"]
    kept, hidden = shapes["model.layers.0.self_attn.k_proj.weight"]
    layers = [sum(name.endswith(end) for name in shapes) for end in ("fc1.weight", "gate_proj.weight")]
    ear = EncoderSize(layers[0], width, width // HEAD, inner, shapes["audio_tower.conv2d1.bias"][0])
    wide, _ = shapes["model.layers.0.mlp.gate_proj.weight"]
    heads = shapes["model.layers.0.self_attn.q_proj.weight"][0] // HEAD
    return ear, TransformerSize(layers[1], hidden, wide, heads, kept // HEAD, HEAD, rope_theta=TRAINED_THETA)


def write_qwen3_asr(
    folder: Path,
    tokenizer: Tokenizer,
    languages: Sequence[str],
    *,
    ear: EncoderSize = EAR,
    size: TransformerSize = TEXT,
    quantised: bool = False,
) -> None:
    """All of a Qwen3-ASR checkpoint but its weights, whose names and shapes are those of `asr_shapes`."""
    extra = QUANTISED if quantised else {}
    write_speech_files(folder, tokenizer, languages, {"model_type": "qwen3_asr"}, extra, ear, size)


def write_speech_files(
    folder: Path,
    tokenizer: Tokenizer,
    languages: Sequence[str],
    thinker: Mapping[str, object],
    extra: Mapping[str, object],
    ear: EncoderSize = EAR,
    size: TransformerSize = TEXT,
) -> None:
    """All of a checkpoint but its weights; `thinker` tells what it is, `extra` goes beside."""
    end = tokenizer.token_to_id("<|im_end|>")
    config = {
        "architectures": ["Qwen3ASRForConditionalGeneration"],
        "model_type": "qwen3_asr",
        "support_languages": list(languages),
        "thinker_config": {
            "audio_config": _audio_config(ear, size),
            "text_config": _text_config(tokenizer.get_vocab_size(), size),
            "audio_token_id": tokenizer.token_to_id("<|audio_pad|>"),
            "audio_start_token_id": tokenizer.token_to_id("<|audio_start|>"),
            "audio_end_token_id": tokenizer.token_to_id("<|audio_end|>"),
            "dtype": "float32",
            **thinker,
        },
        **extra,
    }
    tokenizer_config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,  # as published: else the library takes <|endoftext|> for it, and no end of a text
    }
    generation = {"eos_token_id": [end, tokenizer.token_to_id("<|endoftext|>")]}
    write_files(folder, config, tokenizer, tokenizer_config, generation)
    preprocessor = json.dumps(_preprocessor_config(), indent=2) + "\n"
    (folder / "preprocessor_config.json").write_text(preprocessor, encoding="utf-8")


def speech_tokenizer(words: Sequence[str], languages: Sequence[str]) -> Tokenizer:
    """Byte-level, as Qwen models have it, in which every one of these words is one token."""
    # `ADDED` aren't special: as such they would vanish from what the library decodes, and the language with them.
    return byte_level_tokenizer(_spellings(words, languages), ENOUGH, SPECIAL, ADDED)


def asr_shapes(rows: int) -> Shapes:
    """Names and shapes of all weights, in MLX's layout, for so many token ids. The head is the embeddings'."""
    shapes = {name: shape for name, shape in shapes_of(TEXT, rows, NORMS).items() if name != "lm_head.weight"}
    return audio_shapes() | shapes


def aligner_shapes(rows: int) -> Shapes:
    """As `asr_shapes`; the head tells a time for every token."""
    return asr_shapes(rows) | {"lm_head.weight": (CLASSES, TEXT.hidden)}


def audio_shapes(ear: EncoderSize = EAR, hidden: int = TEXT.hidden) -> Shapes:
    """The encoder's: three convolutions, layers of attention, a projection to the text model's `hidden` size."""
    bins, width = MELS, ear.width
    shapes: Shapes = {}
    for number, channels in enumerate((1, ear.channels, ear.channels), start=1):
        bins = (bins + 1) // 2
        shapes |= _with_bias(f"audio_tower.conv2d{number}", (ear.channels, 3, 3, channels))
    shapes["audio_tower.conv_out.weight"] = (width, ear.channels * bins)
    for index in range(ear.layers):
        layer = f"audio_tower.layers.{index}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _with_bias(f"{layer}.self_attn.{name}", (width, width))
        shapes |= _with_bias(f"{layer}.self_attn_layer_norm", (width,))
        shapes |= _with_bias(f"{layer}.fc1", (ear.inner, width)) | _with_bias(f"{layer}.fc2", (width, ear.inner))
        shapes |= _with_bias(f"{layer}.final_layer_norm", (width,))
    shapes |= _with_bias("audio_tower.ln_post", (width,))
    return shapes | _with_bias("audio_tower.proj1", (width, width)) | _with_bias("audio_tower.proj2", (hidden, width))


def random_speech_weights(shapes: Shapes) -> dict[str, Array]:
    """The same for the same shapes; what is said with them depends on all that was heard. Biases are small."""
    generator = np.random.default_rng(7)
    weights: dict[str, Array] = {}
    for name, shape in shapes.items():
        if name.endswith(".bias"):
            weights[name] = generator.standard_normal(shape, np.float32) * np.float32(0.02)
        elif len(shape) == 1:
            weights[name] = np.full(
                shape, SHARPNESS if name.endswith(("q_norm.weight", "k_norm.weight")) else 1.0, np.float32
            )
        else:
            mixes = name.endswith(("o_proj.weight", "down_proj.weight")) and name.startswith("model.")
            scale = (MIXING if mixes else 1.0) * float(np.prod(shape[1:])) ** -0.5
            weights[name] = generator.standard_normal(shape, np.float32) * np.float32(scale)
    return weights


def _with_bias(name: str, shape: tuple[int, ...]) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _spellings(words: Iterable[str], languages: Iterable[str]) -> list[str]:
    every = [*FRAME, *languages, *words]
    return [spelling for word in every for spelling in (word, f" {word}") for _ in range(2)]


def _quantised(weights: Mapping[str, Array]) -> Mapping[str, Array]:
    text = quantise({name: one for name, one in weights.items() if not name.startswith("audio_tower.")}, BITS)
    return {**{name: one for name, one in weights.items() if name not in text}, **text}  # type: ignore[dict-item]


def _audio_config(ear: EncoderSize, size: TransformerSize) -> dict[str, object]:
    return {
        "model_type": "qwen3_asr_audio_encoder",
        "num_mel_bins": MELS,
        "encoder_layers": ear.layers,
        "encoder_attention_heads": ear.heads,
        "encoder_ffn_dim": ear.inner,
        "d_model": ear.width,
        "activation_function": "gelu",
        "max_source_positions": 1500,
        "n_window": 50,
        "n_window_infer": 800,
        "output_dim": size.hidden,
        "conv_chunksize": 500,
        "downsample_hidden_size": ear.channels,
    }


def _text_config(rows: int, size: TransformerSize) -> dict[str, object]:
    return {
        "model_type": "qwen3",
        "vocab_size": rows,
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "intermediate_size": size.intermediate,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "head_dim": size.head_dim,
        "rms_norm_eps": 1e-6,
        "rope_theta": size.rope_theta,
        "tie_word_embeddings": True,
        "max_position_embeddings": CONTEXT_LENGTH,
        "dtype": "float32",
    }


def _preprocessor_config() -> dict[str, object]:
    """A log-mel spectrogram as Whisper's: 25 ms windows every 10 ms at 16 kHz."""
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": MELS,
        "sampling_rate": 16_000,
        "hop_length": 160,
        "n_fft": 400,
        "chunk_length": 30,
        "n_samples": 480_000,
        "nb_max_frames": 3000,
        "padding_side": "right",
        "padding_value": 0.0,
        "dither": 0.0,
        "return_attention_mask": True,
    }
