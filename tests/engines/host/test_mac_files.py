"""Files as macOS has them, on any system: what it would tell is put in the place of what this one tells."""

import errno
import os
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from demo.checkpoints import make_qwen3
from engines.host import mac_files
from engines.host.mac_files import SF_DATALESS, is_in_cloud
from engines.models.catalog import Catalog, Roots
from engines.models.model_files import read_json
from engines.types.errors import CheckpointUnusable, InvalidRequest, ModelNotInstalled, UnknownModel
from mcp_server import client_paths
from tests.promises import promise


def refusing(number: int) -> Any:
    def open_(*_: Any, **__: Any) -> int:
        raise OSError(number, os.strerror(number))

    return open_


@promise("mac:files:privacy")
def test_a_refusal_of_the_privacy_settings_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "memo.m4a"
    path.write_bytes(b"sound")
    monkeypatch.setattr(os, "open", refusing(errno.EPERM))
    with pytest.raises(InvalidRequest, match="Privacy & Security"):
        client_paths.to_read(str(path), "path")
    with pytest.raises(InvalidRequest, match="Privacy & Security"):
        client_paths.to_write(str(tmp_path / "new.srt"), "output_path", ".srt")
    with pytest.raises(CheckpointUnusable, match="Privacy & Security"):
        read_json(path)


def test_ordinary_permissions_are_told_as_those(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "memo.m4a"
    path.write_bytes(b"sound")
    monkeypatch.setattr(os, "open", refusing(errno.EACCES))
    with pytest.raises(InvalidRequest, match="Permission denied"):
        client_paths.to_read(str(path), "path")


def test_a_folder_of_models_that_macos_keeps_is_named_where_a_model_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "scandir", refusing(errno.EPERM))
    catalog = Catalog(Roots(configured=(tmp_path,)), {})
    with pytest.raises(ModelNotInstalled, match=f"{tmp_path}, which can't be read: macOS keeps it"):
        catalog.resolve("qwen3-14b")
    with pytest.raises(UnknownModel, match=f"{tmp_path}, which can't be read: macOS keeps it"):
        catalog.resolve("my-own")


@promise("mac:files:cloud")
def test_a_file_that_lies_in_the_cloud_alone_is_told_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"{}")
    real = os.fstat

    def fstat(descriptor: int) -> Any:
        status = real(descriptor)
        return SimpleNamespace(st_mode=status.st_mode, st_size=status.st_size, st_flags=SF_DATALESS)

    monkeypatch.setattr(os, "fstat", fstat)
    with pytest.raises(InvalidRequest, match="cloud alone"):
        client_paths.to_read(str(path), "path")
    with pytest.raises(CheckpointUnusable, match="cloud alone"):
        read_json(path)


@promise("mac:files:cloud")
def test_weights_that_lie_in_the_cloud_alone_are_told_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_qwen3(tmp_path / "toy")
    (weights,) = (tmp_path / "toy").glob("*.safetensors")
    real = mac_files.is_in_cloud
    monkeypatch.setattr(mac_files, "is_in_cloud", lambda status: status.st_ino == weights.stat().st_ino or real(status))
    with pytest.raises(CheckpointUnusable, match=f"{weights.name} can't be read now: its content lies in the cloud"):
        Catalog(Roots(configured=(tmp_path,)), {}).resolve("toy")


def test_a_file_without_such_a_flag_is_here(tmp_path: Path) -> None:
    assert not is_in_cloud(os.stat(tmp_path))


@promise("mac:files:names")
@pytest.mark.parametrize(("on_disk", "asked"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFD", "NFD")])
def test_a_folder_answers_to_its_name_in_either_form_of_unicode(tmp_path: Path, on_disk: Any, asked: Any) -> None:
    make_qwen3(tmp_path / unicodedata.normalize(on_disk, "Modèle-é"))
    catalog = Catalog(Roots(configured=(tmp_path,)), {})
    assert catalog.resolve(unicodedata.normalize(asked, "modèle-É")).checkpoint.capability == "chat"
