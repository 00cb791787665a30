"""Files are published whole or not at all, and nothing is overwritten, whatever fails on the way."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from files import durability, publish

LINKS = pytest.mark.parametrize("links", [True, False], ids=["hard links", "none"])
STEPS = ("open", "link", "rename", "unlink", "fsync")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    with publish.opened(tmp_path) as descriptor:
        yield descriptor


def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*given: object, **named: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refused)


class Faults:
    """Makes the n-th operation on the disk fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.left = at
        for name in STEPS:
            monkeypatch.setattr(os, name, self._failing(getattr(os, name)))

    def _failing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*given: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise OSError(5, "a fault")
            return real(*given, **named)

        return operation


@LINKS
def test_a_taken_name_gets_a_number_and_keeps_its_content(
    tmp_path: Path, folder: int, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        without_links(monkeypatch)
    (tmp_path / "a.txt").write_bytes(b"mine")
    assert [publish.write_new(folder, publish.numbered("a.txt"), data) for data in (b"1", b"2")] == [
        "a-2.txt",
        "a-3.txt",
    ]
    contents = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert contents == {"a.txt": b"mine", "a-2.txt": b"1", "a-3.txt": b"2"}


@LINKS
def test_where_all_names_are_taken_nothing_is_left_behind(
    tmp_path: Path, folder: int, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        without_links(monkeypatch)
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(publish.NamesTaken):
        publish.write_new(folder, ["a"], b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_bytes() == b"mine"


@LINKS
def test_whatever_fails_the_file_is_whole_or_not_there(tmp_path: Path, links: bool) -> None:
    """The n-th operation fails, for n = 1, 2, 3 … until a run meets no fault."""
    for at in range(1, 40):
        place = tmp_path / str(at)
        place.mkdir()
        (place / "a").write_bytes(b"mine")
        with pytest.MonkeyPatch.context() as patched, publish.opened(place) as folder:
            if not links:
                without_links(patched)
            faults = Faults(patched, at)
            try:
                published = publish.write_new(folder, publish.numbered("a"), b"new")
            except OSError:
                published = ""
        assert (place / "a").read_bytes() == b"mine"
        named = {path.name: path.read_bytes() for path in place.iterdir() if path.suffix != ".partial"}
        assert set(named.values()) <= {b"mine", b"new"}
        assert not published or named[published] == b"new"
        if faults.left > 0:
            assert published and list(place.glob(".*")) == []
            return
    raise AssertionError("there was no end of operations")


def test_what_is_published_is_synced_and_so_is_its_name(folder: int, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(publish, "sync", synced.append)
    publish.write_new(folder, ["a.txt"], b"text")
    assert len(synced) == 2 and synced[-1] == folder


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_share_that_cannot_sync_a_folder_has_the_file_and_one_that_fails_says_so(
    tmp_path: Path, folder: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = durability.sync

    def sync(descriptor: int) -> None:
        if descriptor == folder:
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(publish, "sync", sync)
    if number == errno.EIO:
        with pytest.raises(OSError, match=os.strerror(number)):
            publish.write_new(folder, ["a"], b"text")
    else:
        assert publish.write_new(folder, ["a"], b"text") == "a"
    assert (tmp_path / "a").read_bytes() == b"text"


def test_a_folder_is_published_over_nothing_that_holds_anything(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    publish.publish_folder(tmp_path / "first", tmp_path / "place")
    with pytest.raises(FileExistsError):
        publish.publish_folder(tmp_path / "second", tmp_path / "place")
    assert (tmp_path / "place" / "file").read_text() == "first" and (tmp_path / "second" / "file").is_file()


def test_a_folder_that_takes_no_file_is_known_before_any_work(folder: int, monkeypatch: pytest.MonkeyPatch) -> None:
    publish.check_writable(folder)
    monkeypatch.setattr(os, "open", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(PermissionError):
        publish.check_writable(folder)
