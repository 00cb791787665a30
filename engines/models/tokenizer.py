"""A checkpoint's tokenizer as the JSON of the `tokenizers` library, also where it has only the older files.

The repositories of Qwen3-ASR and Qwen3-TTS hold vocab.json, merges.txt and tokenizer_config.json, as GPT-2 had them:
byte-level BPE, with the pattern by which Qwen's models cut text before merging.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from engines.models.model_files import MOST_TOKENIZER_BYTES, read_json, read_text
from engines.types.errors import CheckpointUnusable

# Published with Qwen2: contractions; letters with one mark before them; single digits; marks; line ends; blanks.
_QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def is_there(folder: Path) -> bool:
    """Whether the folder has either form."""
    return (folder / "tokenizer.json").is_file() or all(
        (folder / name).is_file() for name in ("vocab.json", "merges.txt")
    )


def source(folder: Path) -> str:
    """The JSON. Raises `CheckpointUnusable` when the folder has neither form."""
    whole = read_text(folder / "tokenizer.json", MOST_TOKENIZER_BYTES)
    if whole is not None:
        return whole
    if not is_there(folder):
        raise CheckpointUnusable("This checkpoint has no tokenizer.json, and no vocab.json with merges.txt.")
    return json.dumps(_assembled(folder), ensure_ascii=False)


def read(folder: Path) -> Tokenizer:
    """As `source`, ready to encode, without padding or truncation."""
    tokenizer = Tokenizer.from_str(source(folder))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _assembled(folder: Path) -> dict[str, Any]:
    vocabulary: dict[str, int] = read_json(folder / "vocab.json")
    lines = (read_text(folder / "merges.txt") or "").split("\n")
    merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    added = read_json(folder / "tokenizer_config.json").get("added_tokens_decoder") or {}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": int(id), "content": token["content"], **{flag: bool(token.get(flag)) for flag in _FLAGS}}
            for id, token in sorted(added.items(), key=lambda item: int(item[0]))
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": _QWEN_PATTERN}, "behavior": "Isolated", "invert": False},
                _BYTE_LEVEL,
            ],
        },
        "post_processor": _BYTE_LEVEL,
        "decoder": _BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }
