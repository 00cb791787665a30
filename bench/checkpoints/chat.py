"""Random Qwen3 checkpoints, made when they are wanted.

Of a vocabulary only the 676 words of two letters (`" ab"`, each one token) can be produced: the other rows of the head
are zero, so that their logit never is the highest. No answer ends early, every token is text of its own, and an answer
that comes back as text in the next turn becomes the same tokens again. The cost of a step is that of full rows.
"""

import contextlib
import itertools
import json
import shutil
import string
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from msgspec import Struct
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from bench.checkpoints import bfloat16
from bench.scale import Scale
from demo import checkpoints as demo

CONTEXT = 32_768
PADDING = {4032: 0, 151_936: 267}  # Qwen3's own model has 267 rows more than its tokenizer has tokens
CONTROL = (*demo.QWEN3_SPECIAL, *demo.QWEN3_ADDED)
PAIRS = tuple(map("".join, itertools.product(string.ascii_lowercase, repeat=2)))
WORDS = tuple(f" {pair}" for pair in PAIRS)
SPACE = "Ġ"  # how a byte-level vocabulary writes a blank
FLOAT_BYTES = 4


class RandomCheckpoint(Struct, frozen=True):
    """A folder, and what a decode step of one stream reads."""

    folder: Path
    label: str
    weight_bytes_per_step: int
    kv_bytes_per_position: int

    @property
    def name(self) -> str:
        return self.folder.name

    def bytes_per_step(self, positions: float) -> float:
        return self.weight_bytes_per_step + positions * self.kv_bytes_per_position


def make(models_dir: Path, rows: int, scale: Scale) -> RandomCheckpoint:
    """Written once, and published by a rename; the same arguments give the same bytes."""
    label = scale.label(rows)
    folder = models_dir / f"bench-{label.replace(' ', '-')}-{scale.layers}x{scale.hidden}"
    size = demo.TransformerSize(
        scale.layers, scale.hidden, scale.intermediate, scale.heads, scale.kv_heads, scale.head_dim
    )
    shapes = demo.shapes_of(size, rows, demo.QWEN3_NORMS)
    if not folder.exists():
        with published(folder) as unfinished:
            tokenizer = _tokenizer(rows - PADDING.get(rows, 0))
            _write_texts(unfinished, rows, scale, tokenizer)
            _write_weights(unfinished / "model.safetensors", shapes, tokenizer, scale)
    # The embedding is a look-up: a step reads one row of it.
    read = sum(int(np.prod(shape)) for name, shape in shapes.items() if "embed_tokens" not in name)
    kv = 2 * scale.layers * scale.kv_heads * scale.head_dim
    size_of_one = bfloat16.BYTES if scale.bfloat16 else FLOAT_BYTES
    return RandomCheckpoint(folder, label, read * size_of_one, kv * size_of_one)


@contextlib.contextmanager
def published(folder: Path) -> Iterator[Path]:
    """A folder to write, which becomes `folder` by a rename once everything is written."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    yield unfinished
    unfinished.rename(folder)


def _tokenizer(size: int) -> Tokenizer:
    """Bytes, pairs of letters, words, then fillers up to `size` (no text becomes one), then the control tokens."""
    vocabulary = {piece: id for id, piece in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    pieces = [*PAIRS, *(SPACE + pair for pair in PAIRS)]
    vocabulary |= {piece: len(vocabulary) + place for place, piece in enumerate(pieces)}
    fillers = size - len(vocabulary) - len(CONTROL)
    vocabulary |= {f"{SPACE}filler{number:06}": len(vocabulary) + number for number in range(fillers)}
    merges = [(pair[0], pair[1]) for pair in PAIRS] + [(SPACE, pair) for pair in PAIRS]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(demo.WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in demo.QWEN3_SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in demo.QWEN3_ADDED])
    return tokenizer


def _write_texts(folder: Path, rows: int, scale: Scale, tokenizer: Tokenizer) -> None:
    ends = [tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")]
    config = {
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "torch_dtype": "bfloat16" if scale.bfloat16 else "float32",
        "hidden_size": scale.hidden,
        "num_hidden_layers": scale.layers,
        "intermediate_size": scale.intermediate,
        "num_attention_heads": scale.heads,
        "num_key_value_heads": scale.kv_heads,
        "head_dim": scale.head_dim,
        "rms_norm_eps": 1e-6,
        "vocab_size": rows,
        "max_position_embeddings": CONTEXT,
        "rope_theta": 1_000_000.0,
        "tie_word_embeddings": False,
        "eos_token_id": ends[0],
    }
    template = Path(demo.__file__).parent / "templates" / "qwen3.jinja"
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": CONTEXT,
        "chat_template": template.read_text(encoding="utf-8"),
    }
    tokenizer.save(str(folder / "tokenizer.json"))
    texts = {"config": config, "tokenizer_config": settings, "generation_config": {"eos_token_id": ends}}
    for name, content in texts.items():
        (folder / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _write_weights(path: Path, shapes: demo.Shapes, tokenizer: Tokenizer, scale: Scale) -> None:
    silent = np.ones(shapes["lm_head.weight"][0], bool)
    vocabulary = tokenizer.get_vocab()
    silent[[vocabulary[SPACE + pair] for pair in PAIRS]] = False
    if scale.bfloat16:
        bfloat16.write(path, shapes, silent)
        return
    weights = demo.random_weights(shapes, norm=1.0)
    weights["lm_head.weight"][silent] = 0.0
    save_file(weights, path, {"format": "mlx"})
