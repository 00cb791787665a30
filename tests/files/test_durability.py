"""Writing for good, as macOS and other systems have it."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from files.durability import sync
from tests.promises import promise


def refusing(number: int) -> Any:
    def control(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    return control


@promise("mac:files:durable")
def test_a_file_is_written_for_good_by_the_stronger_order_where_there_is_one(tmp_path: Path) -> None:
    ordered: list[int] = []
    with (tmp_path / "a").open("wb") as file:
        sync(file.fileno(), 51, lambda _, order: ordered.append(order))
    assert ordered == [51]


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.EINVAL])
def test_a_disk_that_doesnt_know_it_gets_the_weaker_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with (tmp_path / "a").open("wb") as file:
        sync(file.fileno(), 51, refusing(number))
        assert synced == [file.fileno()]


def test_a_disk_that_fails_is_no_success(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file, pytest.raises(OSError, match="I/O error|Input/output"):
        sync(file.fileno(), 51, refusing(errno.EIO))
