import asyncio
from collections.abc import AsyncIterator, Sequence
from io import FileIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.types.errors import InvalidRequest
from http_server import multipart
from http_server.multipart import (
    LONGEST_TEXTS,
    MOST_PARTS,
    Began,
    Form,
    FormParts,
    PartData,
    PartEnded,
    PartEvent,
    receive,
)
from tests.promises import promise

TYPE = "multipart/form-data; boundary=b"


def part(name: str, data: bytes, more: str = "") -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + data + b"\r\n"


FILE = '; filename="x.wav"\r\nContent-Type: audio/wav'
END = b"--b--\r\n"
WHOLE = part("model", b"m") + part("file", b"\r\n--\r\nRIFF\x00\xff--b", FILE) + part("prompt", "廣東話".encode()) + END


def events(chunks: Sequence[bytes]) -> list[PartEvent]:
    """With the data of a part in one piece."""
    parts = FormParts(TYPE)
    found: list[PartEvent] = []
    for chunk in chunks:
        for event in parts.feed(chunk):
            if isinstance(event, PartData) and isinstance(found[-1], PartData):
                event = PartData(found.pop().data + event.data)  # type: ignore[union-attr]
            found.append(event)
    parts.close()
    return found


def received(body: bytes, folder: Path, content_type: str = TYPE, size: int = 7) -> Form:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    return asyncio.run(receive(content_type, chunks(), folder, frozenset({"file"})))


@given(st.lists(st.integers(0, len(WHOLE)), max_size=6))
def test_parts_are_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(WHOLE)]
    assert events([WHOLE[start:end] for start, end in zip(places, places[1:], strict=False)]) == [
        Began("model", False),
        PartData(b"m"),
        PartEnded(),
        Began("file", True),
        PartData(b"\r\n--\r\nRIFF\x00\xff--b"),
        PartEnded(),
        Began("prompt", False),
        PartData("廣東話".encode()),
        PartEnded(),
    ]


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_come_through_a_part(data: bytes, size: int) -> None:
    body = part("file", data, FILE) + END
    if b"\r\n--b" not in b"\r\n" + data:
        found = events([body[start : start + size] for start in range(0, len(body), size)])
        assert [one.data for one in found if isinstance(one, PartData)] == ([data] if data else [])


@given(st.binary(max_size=200))
def test_no_bytes_are_an_unexpected_error(data: bytes) -> None:
    for body in (data, b"--b\r\n" + data, WHOLE[:40] + data):
        try:
            events([body])
        except InvalidRequest as error:
            assert "multipart" in error.message or "Content-Transfer-Encoding" in error.message


def test_texts_are_kept_and_files_are_spooled(tmp_path: Path) -> None:
    form = received(part("tags[]", b"a") + part("tags[]", b"b") + WHOLE, tmp_path)
    assert form.texts == {"tags[]": ["a", "b"], "model": ["m"], "prompt": ["廣東話"]}
    assert form.files["file"].size == 15
    assert Path(form.files["file"].path).read_bytes() == b"\r\n--\r\nRIFF\x00\xff--b"


@promise("audio:upload:names")
@pytest.mark.parametrize(
    "name", ["../../x.wav", "/etc/passwd", "C:\\x.wav", "a\\nb", "會議.m4a", "x" * 3000, "", '\\"', "..", "\x00"]
)
def test_a_files_name_is_never_used(tmp_path: Path, name: str) -> None:
    form = received(part("file", b"RIFF", f'; filename="{name}"') + END, tmp_path)
    assert [str(path) for path in tmp_path.iterdir()] == [form.files["file"].path]
    assert Path(form.files["file"].path).name == "1"


def test_a_file_without_a_name_is_one(tmp_path: Path) -> None:
    assert received(part("file", b"RIFF") + END, tmp_path).files["file"].size == 4


def test_a_file_that_nobody_asked_for_is_not_kept(tmp_path: Path) -> None:
    form = received(part("other", b"RIFF" * 1000, FILE) + part("file", b"RIFF", FILE) + END, tmp_path)
    assert form.strays == ("other",) and form.texts == {}
    assert len(list(tmp_path.iterdir())) == 1


@promise("audio:upload:broken")
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("", WHOLE),
        ("application/json", b"{}"),
        ("application/x-www-form-urlencoded", b"model=m"),
        ("multipart/form-data", WHOLE),
        ("multipart/form-data; boundary=", WHOLE),
        (f"multipart/form-data; boundary={'b' * 1000}", WHOLE),
        ("multipart/form-data; boundary=other", WHOLE),
        (TYPE, b""),
        (TYPE, WHOLE[: -len(END)]),
        (TYPE, WHOLE[:60]),
        (TYPE, b"--b\r\n\r\nRIFF\r\n" + END),
        (TYPE, b"--b\r\nContent-Disposition: form-data\r\n\r\nRIFF\r\n" + END),
        (TYPE, b"--b\r\nContent-Disposition: form-data; name=" + b"x" * 100_000 + b"\r\n\r\nRIFF\r\n" + END),
        (TYPE, part("file", b"UklGRg==", FILE + "\r\nContent-Transfer-Encoding: base64") + END),
    ],
)
def test_what_is_no_form_is_a_clear_error(tmp_path: Path, content_type: str, body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="multipart|boundary|Content-Transfer-Encoding"):
        received(body, tmp_path, content_type)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (part("file", b"a", FILE) + part("file", b"b", FILE) + END, "file"),
        (part("file", b"", FILE) + END, "file"),
        (part("prompt", b"x" * (LONGEST_TEXTS + 1)) + END, "prompt"),
        (part("model", b"m" * 1000) + part("prompt", b"x" * (LONGEST_TEXTS - 999)) + END, "prompt"),
        (part("prompt", b"\xff") + END, "prompt"),
        (part("tag", b"x") * (MOST_PARTS + 1) + END, None),
    ],
    ids=["twice", "empty", "huge", "together", "no text", "many"],
)
def test_what_is_too_much_or_no_text_is_refused_by_its_name(tmp_path: Path, body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        received(body, tmp_path, size=1 << 16)
    assert caught.value.param == param


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk here is full at will")
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_full_disk_shows_while_the_form_is_read(tmp_path: Path, size: int) -> None:
    (tmp_path / "1").symlink_to("/dev/full")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multipart, "FileIO", lambda path, mode: FileIO(path, "w"))
        with pytest.raises(OSError, match="No space left"):
            received(part("file", b"x" * size, FILE) + END, tmp_path, size=1 << 16)


@pytest.mark.parametrize("text", ["/tmp/a.wav", "~/錄音.m4a", "./a b.wav", "meeting.MP3", "file:///a"])
def test_a_path_for_a_file_is_told_from_a_recording(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidRequest, match="with the @") as caught:
        received(part("file", text.encode()) + END, tmp_path)
    assert caught.value.param == "file" and text in caught.value.message
    (tmp_path / "1").unlink()
    assert received(part("file", text.encode(), FILE) + END, tmp_path).files  # a file that holds a path


@pytest.mark.parametrize("data", [b"RIFF.wav\x00\x01", b"one two three", b"/" * 2000])
def test_what_is_no_path_is_a_file_without_a_name(tmp_path: Path, data: bytes) -> None:
    assert received(part("file", data) + END, tmp_path).files["file"].size == len(data)
