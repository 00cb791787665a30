"""A checkpoint's arrays, as its files have them."""

from pathlib import Path

import mlx.core as mx

from engines.models.model_files import matching
from engines.types.errors import CheckpointUnusable


def read(folder: Path, *patterns: str) -> dict[str, mx.array]:
    """All files of the first of these patterns that has any. Raises `CheckpointUnusable` when none has."""
    files = next((found for pattern in patterns if (found := matching(folder, pattern))), [])
    if not files:
        raise CheckpointUnusable(f"{folder} has no weights ({' or '.join(patterns)}). Fetch the model again.")
    weights: dict[str, mx.array] = {}
    for file in files:
        if not file.is_file():
            raise CheckpointUnusable(f"{file} is no file. Remove it, or fetch the model again.")
        loaded = mx.load(str(file))
        assert isinstance(loaded, dict)
        weights |= loaded
    return weights
