"""Folders of models that aren't for MLX, or not to be run as they are: what they are, and what to do."""

import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from engines.models.model_files import is_whole
from engines.types.errors import raise_shortage

_POINTER = b"version https://git-lfs.github.com/spec/"
_MLX = "Fetch a version for MLX (mlx-community has most), or convert the original with mlx_lm.convert."
_SUFFIXES = (  # of files and folders, the likeliest first
    (".gguf", f"holds a model in the GGUF format, for llama.cpp. {_MLX}"),
    (".ggml", f"holds a model in the GGML format, for llama.cpp. {_MLX}"),
    (".onnx", f"holds a model in the ONNX format. {_MLX}"),
    (".mlpackage", f"holds a model in Core ML's format. {_MLX}"),
    (".mlmodelc", f"holds a model in Core ML's format. {_MLX}"),
    (".mlmodel", f"holds a model in Core ML's format. {_MLX}"),
    (".h5", f"holds a model in TensorFlow's format. {_MLX}"),
    (".tflite", f"holds a model in TensorFlow's format. {_MLX}"),
    (".msgpack", f"holds a model in Flax's format. {_MLX}"),
    (".nemo", f"holds a model in NeMo's format. {_MLX}"),
    (".engine", f"holds a model in TensorRT's format. {_MLX}"),
    ("openvino_model.bin", f"holds a model in OpenVINO's format. {_MLX}"),
    ("mlc-chat-config.json", f"holds a model in MLC's format. {_MLX}"),
    (".bin", f"holds weights in PyTorch's format alone (.bin, .pt, .pth). {_MLX}"),
    (".pt", f"holds weights in PyTorch's format alone (.bin, .pt, .pth). {_MLX}"),
    (".pth", f"holds weights in PyTorch's format alone (.bin, .pt, .pth). {_MLX}"),
    (".ckpt", f"holds weights in PyTorch's format alone (.ckpt). {_MLX}"),
)
_CTRANSLATE2 = f"holds a model in CTranslate2's format, as faster-whisper has it. {_MLX}"
_GGML = f"holds a model in the GGML format, for whisper.cpp. {_MLX}"
_ADAPTER = (
    "holds an adapter (LoRA) alone, without the model that it changes. Fuse the two with mlx_lm.fuse, or fetch a "
    "model with the adapter in it."
)
_ADAPTERS = ("adapter_model.safetensors", "adapters.safetensors", "adapter_model.bin")
_GGML_MAGICS = (b"lmgg", b"fmgg", b"tjgg", b"algg")  # its own word, the bytes turned round
# Quantisations that mlx-lm can't turn into MLX's, as config.json names them.
_QUANTISED = "aqlm bitsandbytes eetq exl2 exl3 fbgemm_fp8 higgs hqq quanto quip spqr torchao vptq".split()
_POINTERS = (
    "holds pointers of git-lfs instead of files ({}). Run `git lfs pull` in it, or fetch it with mlx-local models pull."
)
_OTHER_NAMES = "holds weights that aren't named as MLX has them ({}; wanted is model*.safetensors). " + _MLX


def names(folder: Path) -> list[str]:
    """What is in a folder, in order, apart from what is hidden (`.DS_Store`, `._name`)."""
    try:
        return sorted(entry.name for entry in os.scandir(folder) if not entry.name.startswith("."))
    except OSError as error:
        raise_shortage(error)
        return []


def is_one(there: Sequence[str]) -> bool:
    """Whether a folder with such names in it holds a model of another format."""
    return any(_format(name) for name in there)


def pointers(folder: Path) -> str | None:
    """A sentence's end for a folder in which files are git-lfs' pointers."""
    found = [name for name in names(folder) if name.endswith((".safetensors", ".json", ".npz"))]
    found = [name for name in found if _begins(folder / name, _POINTER)]
    return _POINTERS.format(", ".join(found[:3])) if found else None


def quantised(config: Mapping[str, object]) -> str | None:
    """A sentence's end for weights that are quantised in another library's way."""
    given = config.get("quantization_config")
    method = given.get("quant_method") if isinstance(given, Mapping) and "quantization" not in config else None
    return f"holds weights quantised as {method}, which MLX can't run. {_MLX}" if method in _QUANTISED else None


def described(folder: Path) -> str | None:
    """A sentence's end for a folder without weights for MLX: what it is instead; None for nothing that is known."""
    there = names(folder)
    if any(name in _ADAPTERS for name in there):
        return _ADAPTER
    if "model.bin" in there and not _begins(folder / "model.bin", b"PK", b"\x80"):
        return _CTRANSLATE2 if _is_ctranslate2(folder / "model.bin") else _format("model.bin")
    if any(name.endswith(".bin") and _begins(folder / name, *_GGML_MAGICS) for name in there):
        return _GGML
    weights = [name for name in there if name.endswith(".safetensors") and is_whole(folder / name)]
    if weights:
        return _OTHER_NAMES.format(", ".join(weights[:3]))
    below = [inner for name in ("onnx",) for inner in names(folder / name)]
    for suffix, what in _SUFFIXES:
        if any(name.lower().endswith(suffix) for name in [*there, *below]):
            return what
    return None


def _format(name: str) -> str | None:
    return next((what for suffix, what in _SUFFIXES if name.lower().endswith(suffix)), None)


def _is_ctranslate2(path: Path) -> bool:
    """Its files begin with a small version and the name of a specification, with its length before it."""
    head = _head(path, 6)
    if len(head) < 6:
        return True  # too short for anything, and the name is theirs
    version, length = struct.unpack("<IH", head)
    return bool(version < 100 and 0 < length < 100)


def _begins(path: Path, *beginnings: bytes) -> bool:
    return _head(path, max(map(len, beginnings))).startswith(beginnings)


def _head(path: Path, size: int) -> bytes:
    if not is_whole(path):
        return b""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""
