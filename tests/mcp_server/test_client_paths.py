import os
import sys
from pathlib import Path

import pytest

from engines.types.errors import InvalidRequest
from mcp_server import client_paths


def test_paths_are_absolute_or_of_the_home_folder_or_file_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    recording = tmp_path / "早晨 1.wav"
    recording.write_bytes(b"x")
    for given in (
        str(recording),
        "~/早晨 1.wav",
        recording.as_uri(),
        f"FILE:{recording}",
        f"file://localhost{recording}",
    ):
        assert client_paths.to_read(given, "path") == recording


@pytest.mark.parametrize(
    "given",
    [
        "a.wav",
        "./a.wav",
        "",
        "http://host/a.wav",
        "https://[a.wav",
        "file://host/a.wav",
        "/no/such.wav",
        "/tmp",
        "/a\0b",
        "~nobody-is-called-so/a.wav",
        f"/{'x' * 5000}.wav",
        "/\ud83d.wav",
    ],
)
def test_what_is_no_readable_file_is_named(given: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client_paths.to_read(given, "path")
    assert caught.value.param == "path"


@pytest.mark.parametrize("name", ["there.txt", "new.srt", "no/folder.txt"])
def test_a_result_goes_to_a_new_file_of_its_kind_in_a_folder_that_is(tmp_path: Path, name: str) -> None:
    (tmp_path / "there.txt").write_text("mine")
    with pytest.raises(InvalidRequest):
        client_paths.to_write(str(tmp_path / name), "output_path", ".txt")
    assert (tmp_path / "there.txt").read_text() == "mine"
    assert client_paths.to_write(str(tmp_path / "new.txt"), "output_path", ".txt") == tmp_path / "new.txt"


@pytest.mark.parametrize("place", ["/proc/a.txt", "/dev/fd/a.txt"])
@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_a_folder_that_takes_no_file_is_told_before_any_work(place: str) -> None:
    with pytest.raises(InvalidRequest, match="can't be written into"):
        client_paths.to_write(place, "output_path", ".txt")


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    longest = tmp_path / f"{'x' * 251}.txt"
    assert client_paths.create(client_paths.to_write(str(longest), "output_path", ".txt"), b"1") == longest
    with pytest.raises(InvalidRequest, match="too long"):
        client_paths.to_write(str(tmp_path / f"{'x' * 252}.txt"), "output_path", ".txt")
    assert list(tmp_path.iterdir()) == [longest]


@pytest.mark.parametrize("links", [True, False])
def test_a_taken_name_gets_a_number(tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*given: object, **named: object) -> None:
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr(os, "link", refused)
    target = tmp_path / "a.txt"
    assert [client_paths.create(target, text).name for text in (b"1", b"2", b"3")] == ["a.txt", "a-2.txt", "a-3.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-2.txt", "a-3.txt", "a.txt"]
    assert (target.read_bytes(), (tmp_path / "a-3.txt").read_bytes()) == (b"1", b"3")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InvalidRequest, match="can't be written"):
        client_paths.create(tmp_path / "a.txt", b"1")


def test_a_name_is_made_of_a_text_in_any_script() -> None:
    assert client_paths.slug("早晨, everyone: it's 9/10!") == "早晨-everyone-it-s-9-10"
    assert client_paths.slug("…") == "untitled" and len(client_paths.slug("x" * 500)) == 40
