"""Random weights in bfloat16, gigabytes of them in seconds: drawn once, repeated from another place in each matrix.

A matrix repeats the block after a prime number of values, so that none of its rows is another one's copy.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

BYTES = 2
BLOCK = 8_388_617  # a prime
ONE = 0x3F80

Shapes = Mapping[str, tuple[int, ...]]
Bits = npt.NDArray[np.uint16]


def write(path: Path, shapes: Shapes, silent: npt.NDArray[np.bool_]) -> None:
    """A file of safetensors. Vectors are ones; rows of the head that are `silent` are zero. Reproducible."""
    header: dict[str, object] = {"__metadata__": {"format": "mlx"}}
    position = 0
    for name, shape in shapes.items():
        size = int(np.prod(shape)) * BYTES
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = np.random.default_rng(7)
    block = generator.standard_normal(BLOCK, np.float32)
    scaled: dict[float, Bits] = {}
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            if len(shape) == 1:
                file.write(np.full(shape, ONE, np.uint16).tobytes())
                continue
            scale = 1.0 if "embed_tokens" in name else shape[-1] ** -0.5
            if scale not in scaled:
                scaled[scale] = rounded(block * np.float32(scale))
            pieces = _repeated(scaled[scale], int(generator.integers(BLOCK)), int(np.prod(shape)))
            _write(file, pieces, silent if name == "lm_head.weight" else None, shape)


def rounded(values: npt.NDArray[np.float32]) -> Bits:
    """The upper halves of the nearest floats that have no lower one. Of finite values."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def _repeated(block: Bits, start: int, count: int) -> Iterator[Bits]:
    while count:
        piece = block[start : start + count]
        yield piece
        count -= len(piece)
        start = 0


def _write(
    file: BinaryIO, pieces: Iterator[Bits], silent: npt.NDArray[np.bool_] | None, shape: tuple[int, ...]
) -> None:
    if silent is None:
        for piece in pieces:
            file.write(piece.data)
        return
    matrix = np.concatenate(list(pieces)).reshape(shape)
    matrix[silent] = 0
    file.write(matrix.data)
