"""Real checkpoint directories in miniature: the architectures are genuine, the weights random, the answers nonsense.

The same call always writes the same bytes. Output depends on every token of the prompt, because the head is not tied
to the embeddings: a random checkpoint with a tied head would only repeat its last input.
"""

import json
import struct
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

Array = npt.NDArray[np.float32]
Shapes = dict[str, tuple[int, ...]]

VOCABULARY = 2000
PADDING = 64
HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD_DIM = 128, 256, 4, 2, 32
CONTEXT_LENGTH = 4096
GROUP_SIZE, BITS = 64, 4

QWEN3_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN3_ADDED = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
GEMMA3_SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
# How Qwen models cut text into words: contractions, words, single digits, punctuation, line ends, blanks.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def make_qwen3(folder: Path, *, padded: bool = False, quantised: bool = False) -> None:
    """Writes a Qwen3 checkpoint of 4 layers x 128, float32, about 5 MB.

    `padded`: the model has 64 more token ids than the tokenizer. `quantised`: 4 bits in groups of 64 (needs MLX).
    """
    tokenizer = _byte_level_tokenizer()
    rows = tokenizer.get_vocab_size() + PADDING * padded
    end = tokenizer.token_to_id("<|im_end|>")
    config = {
        **_config("qwen3", layers=4, rows=rows),
        "architectures": ["Qwen3ForCausalLM"],
        "tie_word_embeddings": False,
        "rope_theta": 1_000_000.0,
        "eos_token_id": end,
    }
    weights = _weights(_shapes(layers=4, rows=rows, norms=("input_layernorm", "post_attention_layernorm")), norm=1.0)
    if quantised:
        config["quantization"] = {"group_size": GROUP_SIZE, "bits": BITS, "mode": "affine"}
    tokenizer_config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "chat_template": _template("qwen3"),
    }
    generation = {"eos_token_id": [end, tokenizer.token_to_id("<|endoftext|>")]}
    _write(folder, config, tokenizer, tokenizer_config, generation)
    _write_weights(folder, _quantise(weights) if quantised else weights)


def make_gemma3(folder: Path, *, padded: bool = False) -> None:
    """Writes a Gemma 3 text checkpoint of 6 layers x 128, float32, about 6 MB; every third layer sees all, others 32.

    `padded`: the model has 64 more token ids than the tokenizer.
    """
    tokenizer = _byte_fallback_tokenizer()
    rows = tokenizer.get_vocab_size() + PADDING * padded
    ends = [tokenizer.token_to_id("<eos>"), tokenizer.token_to_id("<end_of_turn>")]
    config = {
        **_config("gemma3_text", layers=6, rows=rows),
        "architectures": ["Gemma3ForCausalLM"],
        "query_pre_attn_scalar": HEAD_DIM,
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
        "sliding_window": 32,
        "sliding_window_pattern": 3,
        "bos_token_id": tokenizer.token_to_id("<bos>"),
        "eos_token_id": ends,
    }
    norms = (
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    )
    # Gemma's norm multiplies by one plus its weight.
    weights = _weights(_shapes(layers=6, rows=rows, norms=norms), norm=0.0)
    tokenizer_config = {
        "tokenizer_class": "GemmaTokenizer",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
    }
    _write(folder, config, tokenizer, tokenizer_config, {"eos_token_id": ends})
    (folder / "chat_template.jinja").write_text(_template("gemma3"), encoding="utf-8")
    _write_weights(folder, weights)


def _config(model_type: str, *, layers: int, rows: int) -> dict[str, object]:
    return {
        "model_type": model_type,
        "torch_dtype": "float32",
        "hidden_size": HIDDEN,
        "num_hidden_layers": layers,
        "intermediate_size": INTERMEDIATE,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "rms_norm_eps": 1e-6,
        "vocab_size": rows,
        "max_position_embeddings": CONTEXT_LENGTH,
    }


def _shapes(*, layers: int, rows: int, norms: tuple[str, ...]) -> Shapes:
    """Name to (out, in) of every matrix, and to (size,) of every norm."""
    shapes: Shapes = {"model.embed_tokens.weight": (rows, HIDDEN), "lm_head.weight": (rows, HIDDEN)}
    for index in range(layers):
        layer = f"model.layers.{index}"
        shapes |= {
            f"{layer}.self_attn.q_proj.weight": (HEADS * HEAD_DIM, HIDDEN),
            f"{layer}.self_attn.k_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            f"{layer}.self_attn.v_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            f"{layer}.self_attn.o_proj.weight": (HIDDEN, HEADS * HEAD_DIM),
            f"{layer}.self_attn.q_norm.weight": (HEAD_DIM,),
            f"{layer}.self_attn.k_norm.weight": (HEAD_DIM,),
            f"{layer}.mlp.gate_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{layer}.mlp.up_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{layer}.mlp.down_proj.weight": (HIDDEN, INTERMEDIATE),
            **{f"{layer}.{norm}.weight": (HIDDEN,) for norm in norms},
        }
    return shapes | {"model.norm.weight": (HIDDEN,)}


def _weights(shapes: Shapes, *, norm: float) -> dict[str, Array]:
    generator = np.random.default_rng(7)
    weights: dict[str, Array] = {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            weights[name] = np.full(shape, norm, np.float32)
            continue
        scale = 1.0 if "embed_tokens" in name else shape[-1] ** -0.5
        weights[name] = generator.standard_normal(shape, np.float32) * np.float32(scale)
    return weights


def _quantise(weights: Mapping[str, Array]) -> dict[str, npt.NDArray[np.generic]]:
    # Here, because whoever only wants float32 checkpoints needs no MLX.
    import mlx.core as mx

    quantised: dict[str, npt.NDArray[np.generic]] = {}
    for name, weight in weights.items():
        if weight.ndim == 1:
            quantised[name] = weight
            continue
        parts = mx.quantize(mx.array(weight), group_size=GROUP_SIZE, bits=BITS)
        stem = name.removesuffix(".weight")
        quantised |= {
            f"{stem}.{part}": np.array(a) for part, a in zip(("weight", "scales", "biases"), parts, strict=True)
        }
    return quantised


def _write_weights(folder: Path, weights: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Safetensors: the header's length in 8 bytes, the header as JSON, then the arrays one after another."""
    header: dict[str, object] = {"__metadata__": {"format": "mlx"}}
    position = 0
    for name, weight in weights.items():
        kind = {"float32": "F32", "uint32": "U32"}[weight.dtype.name]
        header[name] = {
            "dtype": kind,
            "shape": list(weight.shape),
            "data_offsets": [position, position + weight.nbytes],
        }
        position += weight.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for weight in weights.values():
            file.write(weight.tobytes())


def _write(
    folder: Path,
    config: Mapping[str, object],
    tokenizer: Tokenizer,
    tokenizer_config: Mapping[str, object],
    generation: Mapping[str, object],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    files = {
        "config.json": config,
        "tokenizer_config.json": {**tokenizer_config, "model_max_length": CONTEXT_LENGTH},
        "generation_config.json": generation,
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _byte_level_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(QWEN3_SPECIAL) - len(QWEN3_ADDED),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in QWEN3_SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in QWEN3_ADDED])
    return tokenizer


def _byte_fallback_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("▁?[^▁]+|▁+"), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*GEMMA3_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    # The trainer marks all its special tokens as added ones; the byte tokens must be ordinary entries.
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] in GEMMA3_SPECIAL]
    return Tokenizer.from_str(json.dumps(data))


def _corpus() -> list[str]:
    return (Path(__file__).parent / "corpus.txt").read_text(encoding="utf-8").splitlines(keepends=True)


def _template(name: str) -> str:
    return (Path(__file__).parent / "templates" / f"{name}.jinja").read_text(encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Makes `demo-qwen3` and `demo-gemma3` in the folder given as the only argument; returns the exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m demo.checkpoints FOLDER\n")
        return 2
    folder = Path(arguments[0])
    make_qwen3(folder / "demo-qwen3")
    make_gemma3(folder / "demo-gemma3")
    sys.stdout.write(f"{folder / 'demo-qwen3'}\n{folder / 'demo-gemma3'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
