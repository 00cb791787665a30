"""mlx-audio's own server: what it answers, and where it can't work."""

import json

import pytest

from bench.client.connection import Chunk
from bench.contenders import mlx_audio_server
from bench.contenders.mlx_audio_server import heard
from bench.libraries.jobs import Device
from bench.streams import BenchFailed


def line(**fields: object) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def test_texts_come_in_lines_that_may_be_cut_anywhere() -> None:
    whole = line(text="") + line(text="one ") + line(text="two")
    chunks = [(1.0 + place, whole[place : place + 7]) for place in range(0, len(whole), 7)]
    answer = heard(0.5, chunks)
    assert answer.text == "one two"
    assert 0.5 < answer.first < answer.ended == chunks[-1][0]


def test_the_last_line_needs_no_end() -> None:
    assert heard(0.0, [(1.0, line(text="one", segments=[]).strip())]).text == "one"


@pytest.mark.parametrize(
    "chunks",
    [[], [(1.0, line(text=""))], [(1.0, line(text="one")), (2.0, line(error="lost"))]],
    ids=["nothing", "without text", "failed"],
)
def test_what_is_no_transcript_is_an_error(chunks: list[Chunk]) -> None:
    with pytest.raises(BenchFailed):
        heard(0.0, chunks)


def test_what_is_not_installed_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlx_audio_server, "NEEDS", ("json", "no_such_module"))
    with pytest.raises(BenchFailed, match=r"^no_such_module is not installed: install fastapi and webrtcvad-wheels$"):
        mlx_audio_server.check(Device({"device": "Device(gpu, 0)"}))


def test_without_a_gpu_it_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlx_audio_server, "NEEDS", ())
    mlx_audio_server.check(Device({"device": "Device(gpu, 0)"}))
    with pytest.raises(BenchFailed, match="needs a GPU"):
        mlx_audio_server.check(Device({"device": "Device(cpu, 0)"}))
