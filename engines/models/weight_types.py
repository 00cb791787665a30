"""The number types of a checkpoint's weights, from the headers of its files alone.

A safetensors file begins with the length of its header, eight bytes (little-endian), and the header, which is JSON.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

MOST_HEADER = 1 << 20  # bytes that are looked at: every tensor's type stands beside its name
_TYPE = re.compile(rb'"dtype"\s*:\s*"(\w+)"')


def are_float32(shards: Iterable[Path], config: Mapping[str, object]) -> bool:
    """Whether all weights are plain float32, as far as their headers tell. Quantised weights are not; nor is what has
    no such header (`.npz`)."""
    if config.get("quantization") or config.get("quantization_config"):
        return False
    found = {kind for path in shards for kind in _types(path)}
    return bool(found) and found <= {b"F32", b"I32", b"I64"}


def _types(path: Path) -> set[bytes]:
    if path.suffix != ".safetensors":
        return {b"unknown"}
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            return set(_TYPE.findall(file.read(min(length, MOST_HEADER))))
    except OSError:
        return {b"unknown"}
