"""Real checkpoint directories in miniature: the architectures are genuine, the weights random or trained.

The same call always writes the same bytes. Output depends on every token of the prompt, because the head is not tied
to the embeddings: a random checkpoint with a tied head would only repeat its last input. The trained ones come from
`demo/weights`, made by `training`; they know a few things about this product.
"""

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

Array = npt.NDArray[np.float32]
Shapes = dict[str, tuple[int, ...]]

WEIGHTS = Path(__file__).parent / "weights"
VOCABULARY = 2000
PADDING = 64
CONTEXT_LENGTH = 4096
GROUP_SIZE, BITS = 64, 4

QWEN3_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN3_ADDED = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
GEMMA3_SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
# How Qwen models cut text into words: contractions, words, single digits, punctuation, line ends, blanks.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class TransformerSize:
    """The dimensions of a model. A small `rope_theta` shows small heads where their neighbours stand."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int = 32
    rope_theta: float = 1_000_000.0


RANDOM_QWEN3, TRAINED_QWEN3 = (
    TransformerSize(4, 128, 256, 4, 2),
    TransformerSize(4, 192, 512, 6, 3, rope_theta=10_000.0),
)
RANDOM_GEMMA3, TRAINED_GEMMA3 = TransformerSize(6, 128, 256, 4, 2), TransformerSize(6, 192, 384, 4, 2)
QWEN3_NORMS = ("input_layernorm", "post_attention_layernorm")
GEMMA3_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)


def make_qwen3(folder: Path, *, padded: bool = False, quantised: bool = False) -> None:
    """Writes a Qwen3 checkpoint of 4 layers x 128, float32, about 5 MB, with random weights.

    `padded`: the model has 64 more token ids than the tokenizer. `quantised`: 4 bits in groups of 64 (needs MLX).
    """
    tokenizer = byte_level_tokenizer(_corpus(), VOCABULARY)
    rows = tokenizer.get_vocab_size() + PADDING * padded
    extra = {"quantization": {"group_size": GROUP_SIZE, "bits": BITS, "mode": "affine"}} if quantised else {}
    write_qwen3(folder, tokenizer, RANDOM_QWEN3, rows, extra)
    weights = random_weights(shapes_of(RANDOM_QWEN3, rows, QWEN3_NORMS), norm=1.0)
    write_weights(folder / "model.safetensors", quantise(weights) if quantised else weights)


def make_gemma3(folder: Path, *, padded: bool = False) -> None:
    """Writes a Gemma 3 text checkpoint of 6 layers x 128, float32, about 6 MB, with random weights.

    Every third layer sees all, others 32 tokens. `padded`: the model has 64 more token ids than the tokenizer.
    """
    tokenizer = byte_fallback_tokenizer(_corpus(), VOCABULARY)
    rows = tokenizer.get_vocab_size() + PADDING * padded
    write_gemma3(folder, tokenizer, RANDOM_GEMMA3, rows)
    # Gemma's norm multiplies by one plus its weight.
    write_weights(folder / "model.safetensors", random_weights(shapes_of(RANDOM_GEMMA3, rows, GEMMA3_NORMS), norm=0.0))


def trained_qwen3(folder: Path, source: Path = WEIGHTS) -> None:
    """Writes the Qwen3 checkpoint that knows this product, thinks and calls tools: 4 layers x 192, float32."""
    tokenizer = Tokenizer.from_file(str(source / "qwen3.tokenizer.json"))
    write_qwen3(folder, tokenizer, TRAINED_QWEN3, tokenizer.get_vocab_size())
    write_weights(folder / "model.safetensors", stored(source / "qwen3.safetensors"))


def trained_gemma3(folder: Path, source: Path = WEIGHTS) -> None:
    """Writes the Gemma 3 checkpoint that knows this product and calls tools: 6 layers x 192, float32."""
    tokenizer = Tokenizer.from_file(str(source / "gemma3.tokenizer.json"))
    write_gemma3(folder, tokenizer, TRAINED_GEMMA3, tokenizer.get_vocab_size())
    write_weights(folder / "model.safetensors", stored(source / "gemma3.safetensors"))


def write_qwen3(
    folder: Path, tokenizer: Tokenizer, size: TransformerSize, rows: int, extra: Mapping[str, object] | None = None
) -> None:
    """All of a Qwen3 checkpoint but its weights; `rows`: how many token ids the model has."""
    end = tokenizer.token_to_id("<|im_end|>")
    config = {
        **_config("qwen3", size, rows),
        "architectures": ["Qwen3ForCausalLM"],
        "tie_word_embeddings": False,
        "rope_theta": size.rope_theta,
        "eos_token_id": end,
        **(extra or {}),
    }
    tokenizer_config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "chat_template": _template("qwen3"),
    }
    generation = {"eos_token_id": [end, tokenizer.token_to_id("<|endoftext|>")]}
    write_files(folder, config, tokenizer, tokenizer_config, generation)


def write_gemma3(folder: Path, tokenizer: Tokenizer, size: TransformerSize, rows: int) -> None:
    """All of a Gemma 3 text checkpoint but its weights; `rows`: how many token ids the model has."""
    ends = [tokenizer.token_to_id("<eos>"), tokenizer.token_to_id("<end_of_turn>")]
    config = {
        **_config("gemma3_text", size, rows),
        "architectures": ["Gemma3ForCausalLM"],
        "query_pre_attn_scalar": size.head_dim,
        "rope_theta": size.rope_theta,
        "rope_local_base_freq": 10_000.0,
        "sliding_window": 32,
        "sliding_window_pattern": 3,
        "bos_token_id": tokenizer.token_to_id("<bos>"),
        "eos_token_id": ends,
    }
    tokenizer_config = {
        "tokenizer_class": "GemmaTokenizer",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
    }
    write_files(folder, config, tokenizer, tokenizer_config, {"eos_token_id": ends})
    (folder / "chat_template.jinja").write_text(_template("gemma3"), encoding="utf-8")


def store(weights: Mapping[str, Array], file: Path) -> None:
    """Into `demo/weights`: in half precision, which halves what the history must keep."""
    write_weights(file, {name: weight.astype(np.float16) for name, weight in weights.items()})


def stored(file: Path) -> dict[str, Array]:
    """What `store` wrote, in float32."""
    content = file.read_bytes()
    start = 8 + struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:start])
    weights: dict[str, Array] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, last = (start + offset for offset in entry["data_offsets"])
        weights[name] = np.frombuffer(content[first:last], np.float16).reshape(entry["shape"]).astype(np.float32)
    return weights


def _config(model_type: str, size: TransformerSize, rows: int) -> dict[str, object]:
    return {
        "model_type": model_type,
        "torch_dtype": "float32",
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "intermediate_size": size.intermediate,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "head_dim": size.head_dim,
        "rms_norm_eps": 1e-6,
        "vocab_size": rows,
        "max_position_embeddings": CONTEXT_LENGTH,
    }


def shapes_of(size: TransformerSize, rows: int, norms: tuple[str, ...]) -> Shapes:
    """Name to (out, in) of every matrix, and to (size,) of every norm."""
    hidden, queries, keys = size.hidden, size.heads * size.head_dim, size.kv_heads * size.head_dim
    shapes: Shapes = {"model.embed_tokens.weight": (rows, hidden), "lm_head.weight": (rows, hidden)}
    for index in range(size.layers):
        layer = f"model.layers.{index}"
        shapes |= {
            f"{layer}.self_attn.q_proj.weight": (queries, hidden),
            f"{layer}.self_attn.k_proj.weight": (keys, hidden),
            f"{layer}.self_attn.v_proj.weight": (keys, hidden),
            f"{layer}.self_attn.o_proj.weight": (hidden, queries),
            f"{layer}.self_attn.q_norm.weight": (size.head_dim,),
            f"{layer}.self_attn.k_norm.weight": (size.head_dim,),
            f"{layer}.mlp.gate_proj.weight": (size.intermediate, hidden),
            f"{layer}.mlp.up_proj.weight": (size.intermediate, hidden),
            f"{layer}.mlp.down_proj.weight": (hidden, size.intermediate),
            **{f"{layer}.{norm}.weight": (hidden,) for norm in norms},
        }
    return shapes | {"model.norm.weight": (hidden,)}


def random_weights(shapes: Shapes, *, norm: float) -> dict[str, Array]:
    """The same for the same shapes; `norm` is the value of every norm's weights."""
    generator = np.random.default_rng(7)
    weights: dict[str, Array] = {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            weights[name] = np.full(shape, norm, np.float32)
            continue
        scale = 1.0 if "embed_tokens" in name else shape[-1] ** -0.5
        weights[name] = generator.standard_normal(shape, np.float32) * np.float32(scale)
    return weights


def quantise(weights: Mapping[str, Array], bits: int = BITS) -> dict[str, npt.NDArray[np.generic]]:
    """Every matrix in groups of `GROUP_SIZE`, as MLX stores it."""
    # Here, because whoever only wants float32 checkpoints needs no MLX.
    import mlx.core as mx

    quantised: dict[str, npt.NDArray[np.generic]] = {}
    for name, weight in weights.items():
        if weight.ndim == 1:
            quantised[name] = weight
            continue
        parts = mx.quantize(mx.array(weight), group_size=GROUP_SIZE, bits=bits)
        stem = name.removesuffix(".weight")
        quantised |= {
            f"{stem}.{part}": np.array(a) for part, a in zip(("weight", "scales", "biases"), parts, strict=True)
        }
    return quantised


def write_weights(path: Path, weights: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Safetensors: the header's length in 8 bytes, the header as JSON, then the arrays one after another."""
    header: dict[str, object] = {"__metadata__": {"format": "mlx"}}
    position = 0
    for name, weight in weights.items():
        kind = {"float32": "F32", "float16": "F16", "uint32": "U32"}[weight.dtype.name]
        header[name] = {
            "dtype": kind,
            "shape": list(weight.shape),
            "data_offsets": [position, position + weight.nbytes],
        }
        position += weight.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for weight in weights.values():
            file.write(weight.tobytes())


def write_files(
    folder: Path,
    config: Mapping[str, object],
    tokenizer: Tokenizer,
    tokenizer_config: Mapping[str, object],
    generation: Mapping[str, object],
) -> None:
    """All of a checkpoint's files but its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    files = {
        "config.json": config,
        "tokenizer_config.json": {**tokenizer_config, "model_max_length": CONTEXT_LENGTH},
        "generation_config.json": generation,
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def byte_level_tokenizer(
    texts: Iterable[str],
    vocabulary: int,
    special: Sequence[str] = QWEN3_SPECIAL,
    added: Sequence[str] = QWEN3_ADDED,
) -> Tokenizer:
    """As Qwen models have it, learnt from these texts; `special` tokens and `added` ones follow what was learnt."""
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
        vocab_size=vocabulary - len(special) - len(added),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in added])
    return tokenizer


def byte_fallback_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """As Gemma models have it, learnt from these texts."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("▁?[^▁]+|▁+"), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[*GEMMA3_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # The trainer marks all its special tokens as added ones; the byte tokens must be ordinary entries.
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] in GEMMA3_SPECIAL]
    return Tokenizer.from_str(json.dumps(data))


def _corpus() -> list[str]:
    return (Path(__file__).parent / "corpus.txt").read_text(encoding="utf-8").splitlines(keepends=True)


def _template(name: str) -> str:
    return (Path(__file__).parent / "templates" / f"{name}.jinja").read_text(encoding="utf-8")
