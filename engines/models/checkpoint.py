"""What a folder with a model in it is, from the folder's own files; no weights are read."""

import hashlib
import os
import re
from pathlib import Path

import msgspec

from engines.models import foreign, required_files, sampling_defaults
from engines.models.config import Json, positions
from engines.models.kv_size import KvSize
from engines.models.model_files import is_whole, read_json, whole_files
from engines.models.registry import ARCHITECTURES, Architecture, Architectures, find
from engines.models.sampling_defaults import SamplingDefaults
from engines.models.weight_types import are_float32
from engines.models.work_space import LEAST
from engines.types.common import Capability
from engines.types.errors import CheckpointUnusable, raise_shortage

_SHARD = re.compile(r"model-\d{5}-of-(\d{5})\.safetensors")


class Checkpoint(msgspec.Struct, frozen=True):
    """A model on disk. Sizes are bytes, `context_length` is tokens (0 if config.json doesn't say).

    A sequence of n tokens needs `kv_bytes_fixed + n * kv_bytes_per_token` bytes of cache at most; the fixed part is
    for layers whose attention is bounded by a window. `changed` is when any of its files was, in nanoseconds.
    `missing` says in words what a complete checkpoint has besides; `foreign`, where it is none for MLX, what it is
    instead. `sampling` is how its makers would have it sampled. `translates`: what is spoken in many languages is
    written down in English, where that is asked for. `work_bytes` is what its passes need beside weights and cache.
    `architecture` is its model type, `entry` that of the registry (`engines.models.registry`), None if it can't be run.
    """

    folder: str
    architecture: str
    capability: Capability | None
    weights_bytes: int
    kv_bytes_per_token: int
    kv_bytes_fixed: int
    context_length: int
    missing: tuple[str, ...] = ()
    changed: int = 0
    foreign: str = ""
    sampling: SamplingDefaults = SamplingDefaults()
    translates: bool = False
    work_bytes: int = LEAST
    entry: Architecture | None = None

    def kv_wish(self, context_limit: int) -> int:
        """Bytes of cache that it would like to have, by its entry's `rows` and `row_tokens`."""
        if self.entry is None:
            return 0
        tokens = min(context_limit, self.context_length or context_limit, self.entry.row_tokens or context_limit)
        return self.entry.rows * (self.kv_bytes_fixed + self.kv_bytes_per_token * tokens)


def inspect(folder: Path, architectures: Architectures = ARCHITECTURES) -> Checkpoint:
    """Raises `CheckpointUnusable`, naming the file, for a file that can't be read or understood."""
    config = read_json(folder / "config.json")
    model_type, known = find(architectures, config)
    globs = known.weights if known is not None else ("model*.safetensors",)
    shards = [path for pattern in globs for path in whole_files(folder, pattern)]
    own = [path for path in shards if path.parent == folder]
    other = foreign.pointers(folder) or foreign.quantised(config)
    other = other or (None if own or _has_index(folder) else foreign.described(folder)) or ""
    seen = Checkpoint(
        folder=str(folder),
        architecture=model_type,
        capability=None,
        weights_bytes=sum(path.stat().st_size for path in shards),
        kv_bytes_per_token=0,
        kv_bytes_fixed=0,
        context_length=positions(folder, config),
        missing=(other,) if other else (*_missing(folder, known), *_missing_weights(folder, own)),
        changed=_changed(folder),
        foreign=other,
        sampling=sampling_defaults.of(read_json(folder / "generation_config.json")),
    )
    return seen if known is None else _as(known, seen, config)


def identity(folder: Path) -> bytes:
    """16 bytes that no other model on this computer has, nor this one once any of its files has changed."""
    named = os.fsencode(folder.resolve()) + b"\0" + str(_changed(folder)).encode()  # a path need not be UTF-8
    return hashlib.blake2b(named, digest_size=16).digest()


def is_float32(seen: Checkpoint) -> bool:
    """Whether no weight is quantised or in half precision, by the headers of its files. False for what can't be read.

    Not a part of `inspect`, which every request waits for.
    """
    if seen.entry is None:
        return False
    folder = Path(seen.folder)
    try:
        shards = [path for pattern in seen.entry.weights for path in whole_files(folder, pattern)]
        return are_float32(shards, read_json(folder / "config.json"))
    except CheckpointUnusable:
        return False


def _changed(folder: Path) -> int:
    """When the newest of a folder's files was changed, in nanoseconds. 0 for a folder that can't be listed; raises
    `OutOfDescriptors` where the process can open no more files."""
    try:
        return max((path.stat().st_mtime_ns for path in folder.iterdir() if path.exists()), default=0)
    except OSError as error:
        raise_shortage(error)
        return 0


def _as(known: Architecture, seen: Checkpoint, config: Json) -> Checkpoint:
    """With what follows from its architecture."""
    folder = Path(seen.folder)
    size: KvSize = known.kv_size(folder, config)
    return msgspec.structs.replace(
        seen,
        capability=known.capability,
        kv_bytes_per_token=size.per_token,
        kv_bytes_fixed=size.fixed,
        translates=known.translates(folder, config),
        work_bytes=known.work_bytes(config),
        entry=known,
    )


def _missing(folder: Path, known: Architecture | None) -> list[str]:
    """What is absent beside weights."""
    missing = [] if is_whole(folder / "config.json") else ["config.json"]
    return missing + (required_files.tokenizer(folder) if known is None else known.missing(folder))


def _has_index(folder: Path) -> bool:
    return (folder / "model.safetensors.index.json").exists()


def _missing_weights(folder: Path, shards: list[Path]) -> list[str]:
    there = {path.name for path in shards}
    expected: set[str] = set()
    weight_map = read_json(folder / "model.safetensors.index.json").get("weight_map", {})
    if isinstance(weight_map, dict):
        expected |= {str(name) for name in weight_map.values()}
    for name in there:
        if match := _SHARD.fullmatch(name):
            count = match[1]
            expected |= {f"model-{number:05}-of-{count}.safetensors" for number in range(1, int(count) + 1)}
    absent = sorted(name for name in expected if name not in there and not is_whole(folder / name))
    if not absent and not there:
        return ["weights (model*.safetensors)"]
    return absent
