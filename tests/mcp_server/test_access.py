"""Which files a client over HTTP may name: real folders, links and pipes."""

import asyncio
import os
from pathlib import Path
from typing import Any

import mcp_types as mcp
import pytest

from engines.types.errors import InvalidRequest
from mcp_server import access
from mcp_server.access import Anything, Below
from mcp_server.options import McpOptions
from mcp_server.tools import registry
from mcp_server.tools.tool import Context
from tests.promises import promise
from tests.scripted import Scripted


class World:
    """A folder that may be named, one that may only be read, and one that may not be."""

    def __init__(self, folder: Path) -> None:
        self.root, self.samples, self.outside = folder / "root", folder / "samples", folder / "outside"
        for one in (self.root / "deep", self.samples, self.outside):
            one.mkdir(parents=True)
        for path in (self.root / "a.wav", self.root / "deep" / "b.wav", self.samples / "c.wav", self.outside / "d.wav"):
            path.write_text(f"say: {path.stem}")
        self.scratch = folder / "scratch"
        self.below = Below([self.root, folder / "not-there"], self.scratch, [self.samples])

    def reads(self, given: object) -> str:
        reading = self.below.to_read(str(given), "path")
        try:
            return reading.path.read_text()
        finally:
            reading.close()

    def refusal(self, given: object) -> str:
        with pytest.raises(InvalidRequest) as caught:
            self.below.to_read(str(given), "path")
        assert caught.value.param == "path"
        return caught.value.message


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_ordinary_files_in_the_folders_can_be_read_by_any_spelling(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(world.root))
    (world.root / "link.wav").symlink_to("deep/b.wav")
    (world.root / "shortcut").symlink_to(world.root / "deep")
    assert world.reads(world.root / "a.wav") == "say: a"
    for given in (
        *(world.root / "deep/b.wav", world.root / "deep/../deep/./b.wav", world.root / "link.wav"),
        *("~/deep/b.wav", (world.root / "deep/b.wav").as_uri(), f"file:{world.root}/deep/b.wav"),
        *(world.root / "shortcut/b.wav", world.outside / "../root/deep/b.wav"),
    ):
        assert world.reads(given) == "say: b"
    assert world.reads(world.samples / "c.wav") == "say: c"
    assert list(world.scratch.iterdir()) == []


def test_a_folder_that_is_configured_by_a_link_is_the_folder(world: World, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(world.root)
    below = Below([tmp_path / "alias"], world.scratch)
    for given in (tmp_path / "alias/a.wav", world.root / "a.wav"):
        reading = below.to_read(str(given), "path")
        assert reading.path.read_text() == "say: a" and reading.stem == "a"
        reading.close()


@promise("mcp:files:below")
def test_what_is_missing_looks_like_what_is_forbidden(world: World) -> None:
    (world.root / "out.wav").symlink_to(world.outside / "d.wav")
    (world.root / "loop.wav").symlink_to("loop.wav")
    (world.root / "out").symlink_to(world.outside)
    os.mkfifo(world.root / "pipe.wav")
    (world.root / "dead.wav").symlink_to("nothing")
    said = {
        world.refusal(given)
        for given in (
            *(world.root / "missing.wav", world.outside / "d.wav", world.outside / "missing.wav", world.outside),
            *(
                world.root,
                world.root / "deep",
                world.root / "out.wav",
                world.root / "out/d.wav",
                world.root / "loop.wav",
            ),
            *(world.root / "pipe.wav", world.root / "dead.wav", world.root / "../outside/d.wav", "/etc/passwd", "/"),
            *("/dev/null", "/dev/stdin", "/proc/self/environ", f"{world.root}-2/a.wav", world.root / "a.wav/x"),
            *(
                f"{world.root}/{'x' * 300}.wav",
                f"/{'x/' * 3000}a.wav",
                f"{world.root}/\ud83d.wav",
                "~root/a",
                "~nobody-x/a",
            ),
            *((world.outside / "d.wav").as_uri(), f"file://{world.root}/%2e%2e/outside/d.wav"),
        )
    }
    assert len(said) == 1 and "file_roots" in said.pop()


@promise("mcp:files:below")
def test_what_lies_on_the_way_there_and_back_doesnt_show(world: World) -> None:
    for between in (world.outside, world.outside / "missing", world.outside / "d.wav", Path("/etc/passwd")):
        back = "../" * len(between.parts[1:])
        assert world.reads(f"{between}/{back}{world.root}/a.wav") == "say: a"
        assert world.below.to_write(f"{between}/{back}{world.root}/new.wav", "output_path", ".wav").name == "new.wav"


@pytest.mark.parametrize("given", ["a.wav", "", "http://host/a.wav", "file://host/a.wav", "/a\0b"])
def test_what_is_no_path_is_told_by_its_spelling(world: World, given: str) -> None:
    assert str(world.root) not in world.refusal(given)


def test_a_file_that_is_replaced_while_it_is_read_is_the_one_that_was_named(world: World) -> None:
    reading = world.below.to_read(str(world.root / "a.wav"), "path")
    (world.root / "a.wav").unlink()
    (world.root / "a.wav").symlink_to(world.outside / "d.wav")
    assert reading.path.read_text() == "say: a"
    reading.close()


@promise("mcp:files:below")
def test_a_folder_that_becomes_a_link_between_look_and_opening_is_not_followed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = access._walk

    def swapped(folder: Path, roots: Any) -> int:
        (world.root / "deep" / "b.wav").unlink()
        (world.root / "deep").rmdir()
        (world.root / "deep").symlink_to(world.outside)
        return walk(folder, roots)

    monkeypatch.setattr(access, "_walk", swapped)
    (world.outside / "b.wav").write_text("secret")
    assert "file_roots" in world.refusal(world.root / "deep/b.wav")


@pytest.mark.parametrize("error", [OSError("another disk")])
def test_where_there_are_no_hard_links_a_copy_is_read(
    world: World, error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(os, "link", refused)
    assert world.reads(world.root / "a.wav") == "say: a" and list(world.scratch.iterdir()) == []


@promise("mcp:files:below")
def test_results_go_to_new_files_in_the_folders_alone(world: World) -> None:
    (world.root / "out").symlink_to(world.outside)
    (world.root / "there.txt").write_text("mine")

    def refusal(given: object) -> str:
        with pytest.raises(InvalidRequest) as caught:
            world.below.to_write(str(given), "output_path", ".txt")
        return caught.value.message

    elsewhere = (
        world.outside,
        world.root / "no",
        world.root / "out",
        world.samples,
        world.outside / "no",
        "/",
        "~root",
    )
    assert len({refusal(f"{folder}/a.txt") for folder in elsewhere}) == 1
    assert "nothing is overwritten" in refusal(world.root / "there.txt")
    target = world.below.to_write(str(world.root / "deep/../new.txt"), "output_path", ".txt")
    assert [world.below.create(target, text).name for text in (b"1", b"2")] == ["new.txt", "new-2.txt"]
    assert (world.root / "new.txt").read_bytes() == b"1" and (world.root / "new-2.txt").read_bytes() == b"2"
    assert not [path for path in world.root.iterdir() if path.name.startswith(".")]
    assert list(world.outside.iterdir()) == [world.outside / "d.wav"]


def test_a_folder_that_became_a_link_takes_no_result(world: World) -> None:
    (world.root / "deep" / "b.wav").unlink()
    target = world.below.to_write(str(world.root / "deep/a.txt"), "output_path", ".txt")
    (world.root / "deep").rmdir()
    (world.root / "deep").symlink_to(world.outside)
    with pytest.raises(InvalidRequest, match="file_roots"):
        world.below.create(target, b"1")
    assert not (world.outside / "a.txt").exists()


def test_every_tool_asks_before_it_reads_or_writes(world: World) -> None:
    async def told(progress: float, total: float | None = None) -> None:
        pass

    inference = Scripted()

    def call(name: str, **given: object) -> mcp.CallToolResult:
        options = McpOptions(world.root, access=world.below)
        return asyncio.run(registry.call(name, given, Context(inference, options, told, "t")))

    inside, outside = world.root / "a.wav", world.outside / "d.wav"
    for name, given in (
        ("transcribe", {"path": str(outside)}),
        ("transcribe", {"path": str(inside), "output_path": f"{world.outside}/a.txt"}),
        ("speak", {"text": "x", "output_path": f"{world.outside}/a.wav"}),
    ):
        with pytest.raises(InvalidRequest, match="file_roots"):
            call(name, **given)
    assert not inference.audio_requests and list(world.scratch.iterdir()) == []
    result = call("transcribe", path=str(inside), output_path=f"{world.root}/deep/a.txt")
    assert result.meta and Path(result.meta["path"]).read_text() == "a"
    assert call("speak", text="x").meta
    assert list(world.scratch.iterdir()) == []


def test_over_stdio_a_client_names_what_the_user_can(world: World) -> None:
    assert Anything().to_read(str(world.outside / "d.wav"), "path").path == world.outside / "d.wav"
    target = Anything().to_write(f"{world.outside}/a.txt", "output_path", ".txt")
    assert Anything().create(target, b"1").read_bytes() == b"1"
