"""OpenAI's own vocabularies of Whisper, for checkpoints that are published without a tokenizer, as mlx-whisper's are.

What is kept of them (`openai/`) is of which two tokens each was merged; the control tokens follow from how many ids the
model has.
"""

import lzma
import struct
from pathlib import Path
from typing import Any

from engines.runner.tokenization.decoders import BYTE_ALPHABET

ENGLISH_SIZE, OLDER_SIZE, SIZE = 51864, 51865, 51866  # of models: English alone, 99 languages, 100
SIZES = (ENGLISH_SIZE, OLDER_SIZE, SIZE)
TIMES = 1501
LANGUAGES = (  # in the order of their ids; Cantonese came with large-v3
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml "
    "cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am "
    "yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su yue"
).split()
_FILES = Path(__file__).parent / "openai"
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def tokenizer_json(size: int) -> dict[str, Any]:
    """As tokenizer.json would have it, for a model of so many ids, one of `SIZES`."""
    tokens, merges = _merged("gpt2" if size == ENGLISH_SIZE else "multilingual")
    if size != ENGLISH_SIZE:
        tokens.append("")  # an id without a text, as published
    return {
        "version": "1.0",
        "added_tokens": [{"id": id, "content": mark, **_FLAGS} for id, mark in enumerate(_marks(size), len(tokens))],
        "pre_tokenizer": _BYTE_LEVEL,
        "decoder": _BYTE_LEVEL,
        "model": {"type": "BPE", "vocab": {token: id for id, token in enumerate(tokens)}, "merges": merges},
    }


def _marks(size: int) -> list[str]:
    languages = LANGUAGES[: 100 if size == SIZE else 99]
    names = ["endoftext", "startoftranscript", *languages, "translate", "transcribe", "startoflm", "startofprev"]
    names += ["nospeech", "notimestamps", *(f"{place * 0.02:.2f}" for place in range(TIMES))]
    return [f"<|{name}|>" for name in names]


def _merged(name: str) -> tuple[list[str], list[tuple[str, str]]]:
    """All tokens in the order of their ids, and the merges that make them."""
    packed = lzma.decompress((_FILES / f"{name}.merges.xz").read_bytes())
    tokens = list(BYTE_ALPHABET)
    merges: list[tuple[str, str]] = []
    for left, right in struct.iter_unpack("<HH", packed):
        merges.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
    return tokens, merges
