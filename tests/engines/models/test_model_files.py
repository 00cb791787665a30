"""Folders of models as strangers make them: pipes, devices, other formats, figures of every kind."""

import errno
import json
import math
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.models import sampling_defaults
from engines.models.catalog import Catalog, Entry, Roots
from engines.models.checkpoint import inspect
from engines.models.model_files import read_bytes, read_json
from engines.models.rope_scaling import context_length
from engines.types.chat import Sampling
from engines.types.errors import CheckpointUnusable, OutOfDescriptors
from tests.engines.models.test_checkpoint import QWEN, WHISPER, write
from tests.promises import promise

# -- what is no file


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    # By its last part: a socket's path may be 104 characters long.
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


STRANGE: dict[str, Callable[[Path], None]] = {
    "a named pipe": pipe,
    "a socket": listening,
    "a folder": Path.mkdir,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "huge": huge,
    "a link to itself": lambda path: path.symlink_to(path),
}


@promise("checkpoints:files")
@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
def test_what_is_no_file_is_refused_by_its_name_and_never_waited_for(tmp_path: Path, name: str, kind: str) -> None:
    write(tmp_path / "it")
    (tmp_path / "it" / name).unlink(missing_ok=True)
    STRANGE[kind](tmp_path / "it" / name)
    catalog = Catalog(Roots(configured=(tmp_path,)), {})
    with pytest.raises(CheckpointUnusable, match=name):
        catalog.resolve("it")
    (listed, *_) = catalog.entries()
    assert isinstance(listed, Entry) and name in listed.checkpoint.missing[0]


@pytest.mark.timeout(10)
def test_weights_that_are_a_pipe_are_refused(tmp_path: Path) -> None:
    pipe(write(tmp_path) / "model-more.safetensors")
    with pytest.raises(CheckpointUnusable, match=r"model-more\.safetensors is no file"):
        inspect(tmp_path)


def test_reading_is_limited_and_nothing_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(b"12345")
    assert read_bytes(tmp_path / "it", 5) == b"12345"
    with pytest.raises(CheckpointUnusable, match="too many"):
        read_bytes(tmp_path / "it", 4)
    assert read_bytes(tmp_path / "none") is None and read_json(tmp_path / "none") == {}


@promise("checkpoints:formats")
def test_numbers_that_only_python_writes_are_read(tmp_path: Path) -> None:
    (tmp_path / "it").write_text(
        '{"limit": [0.0, Infinity], "temperature": NaN, "huge": 1000000000000000019884624838656}'
    )
    found = read_json(tmp_path / "it")
    assert found["limit"] == [0.0, math.inf] and math.isnan(found["temperature"])
    (tmp_path / "it").write_text('{"Infinity": }')
    with pytest.raises(CheckpointUnusable, match="it can't be read"):
        read_json(tmp_path / "it")


# -- other formats

CT2 = struct.pack("<IH", 6, 12) + b"WhisperSpec\0"
FORMATS: dict[str, tuple[dict[str, bytes], str]] = {
    "faster-whisper": ({"config.json": b"{}", "model.bin": CT2, "vocabulary.json": b"[]"}, "CTranslate2"),
    "GGUF": ({"model-Q4_K_M.gguf": b"GGUF"}, "GGUF"),
    "PyTorch": ({"config.json": json.dumps(QWEN).encode(), "pytorch_model.bin": b"PK\3\4"}, "PyTorch"),
    "PyTorch's model.bin": ({"config.json": b"{}", "model.bin": b"PK\3\4aa"}, "PyTorch"),
    "OpenAI's Whisper": ({"large-v3.pt": b"PK\3\4"}, "PyTorch"),
    "a checkpoint of others": ({"consolidated.00.pth": b"PK\3\4"}, "PyTorch"),
    "whisper.cpp": ({"ggml-large-v3.bin": b"lmgg\0"}, "GGML"),
    "OpenVINO": ({"config.json": b"{}", "openvino_model.bin": b"\0", "openvino_model.xml": b"<x/>"}, "OpenVINO"),
    "MLC": ({"mlc-chat-config.json": b"{}", "params_shard_0.bin": b"\0"}, "MLC"),
    "bitsandbytes": (
        {
            "config.json": json.dumps({**QWEN, "quantization_config": {"quant_method": "bitsandbytes"}}).encode(),
            "model.safetensors": b"x",
        },
        "quantised as bitsandbytes",
    ),
    "ONNX": ({"config.json": b"{}", "onnx/model.onnx": b"x"}, "ONNX"),
    "Core ML": ({"config.json": b"{}", "Encoder.mlmodelc/model": b"x"}, "Core ML"),
    "TensorFlow": ({"config.json": b"{}", "tf_model.h5": b"x"}, "TensorFlow"),
    "an adapter": ({"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"}, "adapter"),
    "Mistral's own": ({"params.json": b"{}", "consolidated.safetensors": b"x"}, "consolidated.safetensors"),
    "git-lfs": (
        {
            "config.json": json.dumps(QWEN).encode(),
            "model.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
        },
        "git lfs pull",
    ),
}


@promise("checkpoints:formats")
@pytest.mark.parametrize("kind", FORMATS)
def test_a_folder_of_another_format_is_named_as_that(tmp_path: Path, kind: str) -> None:
    files, named = FORMATS[kind]
    for name, content in files.items():
        (tmp_path / "org" / "it" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "org" / "it" / name).write_bytes(content)
    (tmp_path / "org" / "it" / "._model.safetensors").write_bytes(b"x")
    (tmp_path / "org" / "it" / ".DS_Store").write_bytes(b"x")
    with pytest.raises(CheckpointUnusable, match=named) as refused:
        Catalog(Roots(plain=(tmp_path,)), {}).resolve("org/it")
    assert "missing" not in refused.value.message


def test_what_macos_leaves_beside_files_is_nobodys_weights(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "._model.safetensors")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    assert inspect(tmp_path).missing == ("weights (model*.safetensors)",)


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.EMFILE, OutOfDescriptors), (errno.EPERM, CheckpointUnusable), (errno.EIO, CheckpointUnusable)],
)
def test_weights_that_cant_be_listed_are_not_taken_for_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    def listdir(_: object) -> list[str]:
        raise OSError(number, os.strerror(number))

    write(tmp_path)
    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(error, match="no more files|can't be read"):
        inspect(tmp_path)


def test_formats_that_others_read_stand_beside_ours_unnoticed(tmp_path: Path) -> None:
    write(tmp_path)
    for name in ("pytorch_model.bin", "model.onnx", "it.gguf"):
        (tmp_path / name).write_bytes(b"x")
    assert inspect(tmp_path).missing == () and not inspect(tmp_path).foreign


def test_weights_of_mlx_whispers_own_layout_are_whole(tmp_path: Path) -> None:
    write(tmp_path, WHISPER)
    (tmp_path / "model.safetensors").rename(tmp_path / "weights.npz")
    assert not inspect(tmp_path).foreign


# -- positions

YARN = {"factor": 4.0, "original_max_position_embeddings": 32768}


@promise("checkpoints:context")
@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"max_position_embeddings": 40960}, 40960),
        ({"max_position_embeddings": 40960, "rope_scaling": {"rope_type": "yarn", **YARN}}, 131072),
        ({"max_position_embeddings": 32768, "rope_scaling": {"type": "yarn", **YARN}}, 131072),
        ({"max_position_embeddings": 131072, "rope_scaling": {"type": "yarn", **YARN}}, 131072),
        ({"max_position_embeddings": 32768, "rope_scaling": {"type": "yarn", "factor": 2.0}}, 65536),
        ({"max_position_embeddings": 40960, "rope_parameters": {"rope_type": "yarn", **YARN}}, 131072),
        ({"max_position_embeddings": 9, "rope_parameters": {"full_attention": {"rope_type": "yarn", **YARN}}}, 131072),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}}, 16384),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "dynamic", "factor": 2}}, 8192),
        ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131072),
        ({"max_position_embeddings": 131072, "rope_scaling": {"type": "longrope", "factor": 32}}, 131072),
        ({"max_position_embeddings": 131072, "rope_scaling": {"type": "su", **YARN}}, 131072),
        ({"max_position_embeddings": 4096, "rope_scaling": None, "rope_parameters": {"rope_type": "default"}}, 4096),
        (
            {
                "model_type": "gemma3_text",
                "max_position_embeddings": 131072,
                "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            },
            131072,
        ),
        ({"rope_scaling": {"type": "yarn", "factor": "4"}}, 0),
    ],
)
def test_the_context_is_what_the_rotary_embeddings_were_scaled_to(config: dict[str, Any], length: int) -> None:
    assert context_length(config) == length


def test_a_checkpoints_context_is_the_scaled_one(tmp_path: Path) -> None:
    folder = write(tmp_path, {**QWEN, "rope_scaling": {"rope_type": "yarn", **YARN}})
    assert inspect(folder).context_length == 131072


# -- sampling


@promise("checkpoints:sampling")
def test_a_checkpoints_own_sampling_holds_where_the_client_gives_none() -> None:
    own = sampling_defaults.of({"temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": None, "eos_token_id": 3})
    asked = Sampling(temperature=0.2, unset=tuple(name for name in sampling_defaults.NAMES if name != "temperature"))
    seen = sampling_defaults.applied(asked, own)
    assert (seen.temperature, seen.top_k, seen.top_p, seen.min_p) == (0.2, 20, 0.95, 0.0)
    assert sampling_defaults.applied(Sampling(temperature=1.0), own) == Sampling(temperature=1.0)


@promise("checkpoints:sampling")
@given(st.sampled_from(sampling_defaults.NAMES), st.from_type(object) | st.floats() | st.integers() | st.booleans())
def test_what_is_out_of_range_is_never_obeyed_and_always_told(name: str, value: object) -> None:
    own = sampling_defaults.of({name: value})
    assert value is None or len(own.values) + len(own.refused) == 1
    for _, good in own.values:
        assert isinstance(good, int | float) and not isinstance(good, bool) and -2 <= good < 2**32


def test_makers_who_do_not_sample_mean_the_likeliest_token() -> None:
    assert sampling_defaults.of({"do_sample": False}).values == (("temperature", 0.0),)
    assert sampling_defaults.of({"do_sample": True, "top_k": -1}).values == (("top_k", 0),)


def test_a_checkpoints_sampling_is_read_with_it(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "generation_config.json").write_text('{"temperature": 0.6, "top_p": 7}')
    seen = inspect(folder).sampling
    assert seen.values == (("temperature", 0.6),) and seen.refused == ("top_p 7",)
