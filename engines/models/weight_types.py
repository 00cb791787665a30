"""The number types of a checkpoint's weights, from the headers of its files alone.

A safetensors file begins with the length of its header, eight bytes (little-endian), and the header, which is JSON.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from engines.models.model_files import read_start
from engines.types.errors import CheckpointUnusable

LENGTH_BYTES = 8
MOST_HEADER = 1 << 20  # bytes that are looked at: every tensor's type stands beside its name
_UNKNOWN = {b"unknown"}
_TYPE = re.compile(rb'"dtype"\s*:\s*"(\w+)"')


def are_float32(shards: Iterable[Path], config: Mapping[str, object]) -> bool:
    """Whether all weights are plain float32, as far as their headers tell. Quantised weights are not; nor is what has
    no such header (`.npz`)."""
    if config.get("quantization") or config.get("quantization_config"):
        return False
    found = {kind for path in shards for kind in _types(path)}
    return bool(found) and found <= {b"F32", b"I32", b"I64"}


def _types(path: Path) -> set[bytes]:
    """Those in a file's header; of a header that is longer than what is looked at, nothing is known."""
    if path.suffix != ".safetensors":
        return _UNKNOWN
    try:
        start = read_start(path, LENGTH_BYTES + MOST_HEADER) or b""
    except CheckpointUnusable:
        return _UNKNOWN
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    return set(_TYPE.findall(start, LENGTH_BYTES, LENGTH_BYTES + length)) if length <= MOST_HEADER else _UNKNOWN
