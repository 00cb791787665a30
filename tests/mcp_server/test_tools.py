"""What the tools of sound ask of `Inference`, and where their results go."""

import asyncio
from pathlib import Path
from typing import Any

import mcp_types as mcp
import pytest

from engines.types.audio import TranscriptionRequest, Voice
from engines.types.errors import InvalidRequest, ServiceError
from mcp_server.options import McpOptions
from mcp_server.tools import registry
from mcp_server.tools.tool import Context
from mcp_server.tools.transcribe import LONGEST_ANSWER
from tests.promises import promise
from tests.scripted import Scripted


class Desk:
    """The tools in memory, over a scripted `Inference`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = folder / "files"
        self.files.mkdir()
        self.inference = Scripted()
        self.progress: list[tuple[float, float | None]] = []

    def call(self, name: str, **given: Any) -> mcp.CallToolResult:
        async def told(progress: float, total: float | None = None) -> None:
            self.progress.append((progress, total))

        return asyncio.run(registry.call(name, given, Context(self.inference, McpOptions(self.files), told, "t")))

    def recording(self, text: str, name: str = "meeting.m4a") -> str:
        (self.folder / name).write_text(text)
        return str(self.folder / name)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def text_of(result: mcp.CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if isinstance(block, mcp.TextContent))


@promise("audio:retry:apart")
def test_whose_call_it_is_goes_with_the_recording(desk: Desk) -> None:
    recording, options = desk.recording("a"), McpOptions(desk.files, tenant="whose")

    async def told(progress: float, total: float | None = None) -> None: ...

    asyncio.run(registry.call("transcribe", {"path": recording}, Context(desk.inference, options, told, "t")))
    request = desk.inference.audio_requests[-1]
    assert isinstance(request, TranscriptionRequest) and request.tenant == "whose"


def test_every_argument_reaches_the_model(desk: Desk) -> None:
    path = desk.recording("a / b")
    desk.call("transcribe", path=path, language="Cantonese", prompt="Ah Ming", script="traditional", model="qwen3-asr")
    asked: Any = desk.inference.audio_requests[-1]
    assert (asked.model, asked.path, asked.language) == ("qwen3-asr", path, "yue")
    assert (asked.prompt, asked.script) == ("Ah Ming", "traditional")
    given = {"voice": "vivian", "language": "zh-CN", "instructions": "slowly", "speed": "0.5"}
    desk.call("speak", text="a.", output_format="opus", **given)
    asked = desk.inference.audio_requests[-1]
    assert (asked.voice, asked.language, asked.instructions) == ("vivian", "zh", "slowly")
    assert (asked.speed, asked.format, asked.streamed) == (0.5, "opus", False)


def test_a_stored_voice_is_spoken_by_a_model_that_imitates_unless_one_is_named(desk: Desk) -> None:
    desk.inference.stored["Ann"] = Voice("Ann", stored=True)
    for given, model in (({"voice": "Ann"}, "qwen3-tts-base"), ({"voice": "Ann", "model": "qwen3-tts"}, "qwen3-tts")):
        desk.call("speak", text="a.", **given)
        asked: Any = desk.inference.audio_requests[-1]
        assert (asked.voice, asked.model) == ("Ann", model)


def test_progress_is_seconds_of_all_seconds(desk: Desk) -> None:
    desk.call("transcribe", path=desk.recording("a b / c d"))
    assert desk.progress[0] == (1.0, 2.0)


def test_progress_of_speech_is_parts_of_all_parts(desk: Desk) -> None:
    desk.call("speak", text="One. Two. Three.")
    assert desk.progress[0] == (1, 3)


@pytest.mark.parametrize(("format", "mark"), [("srt", "-->"), ("vtt", "WEBVTT")])
def test_subtitles_are_answered_and_written(desk: Desk, format: str, mark: str) -> None:
    path, target = desk.recording("a b / c"), desk.folder / f"out.{format}"
    assert mark in text_of(desk.call("transcribe", path=path, output_format=format))
    written = desk.call("transcribe", path=path, output_format=format, output_path=str(target))
    assert mark in target.read_text() and str(target) in text_of(written)
    with pytest.raises(InvalidRequest, match="nothing is overwritten"):
        desk.call("transcribe", path=path, output_format=format, output_path=str(target))


def test_a_long_transcript_is_a_file_and_its_head(desk: Desk) -> None:
    words = "word " * LONGEST_ANSWER
    answer = desk.call("transcribe", path=desk.recording(words))
    assert len(text_of(answer)) < 4_000 and answer.meta is not None
    assert Path(answer.meta["path"]) == desk.files / "meeting.txt"
    assert (desk.files / "meeting.txt").read_text() == words.strip()
    again = desk.call("transcribe", path=desk.recording(words))
    assert again.meta is not None and Path(again.meta["path"]) == desk.files / "meeting-2.txt"


def test_a_track_and_channels_are_chosen_and_the_track_is_told(desk: Desk) -> None:
    answer = desk.call("transcribe", path=desk.recording("film: a b"), track="1", channels=2)
    asked: Any = desk.inference.audio_requests[-1]
    assert (asked.track, asked.channels) == (1, 2) and answer.meta is not None
    assert (answer.meta["track"], answer.meta["tracks"]) == (1, 2)
    desk.call("transcribe", path=desk.recording("a b"), channels="Separate")
    asked = desk.inference.audio_requests[-1]
    assert (asked.track, asked.channels) == (None, "separate")
    for given in ({"track": 3}, {"channels": "left"}, {"channels": "1.5"}):
        with pytest.raises(InvalidRequest, match=next(iter(given)).removesuffix("s")):
            desk.call("transcribe", path=desk.recording("film: a"), **given)


def test_silence_is_said_to_be_silence(desk: Desk) -> None:
    assert "nothing is spoken" in text_of(desk.call("transcribe", path=desk.recording("say: ")))


@pytest.mark.parametrize("name", ["transcribe", "speak"])
def test_a_cut_result_says_so(desk: Desk, name: str) -> None:
    given = {"path": desk.recording("cut: a b")} if name == "transcribe" else {"text": "cut: a b."}
    answer = desk.call(name, **given)
    assert "[incomplete: " in text_of(answer) and answer.meta is not None and answer.meta["incomplete"]


def test_speech_goes_to_the_file_that_is_named(desk: Desk) -> None:
    target = desk.folder / "hello.flac"
    answer = desk.call("speak", text="hello.", output_format="flac", output_path=str(target))
    assert target.read_bytes() == b"flac:hello." and str(target) in text_of(answer)


@pytest.mark.parametrize(
    ("name", "given", "param"),
    [
        ("transcribe", {"path": "/no/such.wav"}, "path"),
        ("transcribe", {"output_format": "docx"}, "output_format"),
        ("transcribe", {"script": "latin"}, "script"),
        ("transcribe", {"language": "klingon"}, "language"),
        ("transcribe", {"output_path": "/no/such/a.txt"}, "output_path"),
        ("speak", {"text": "a", "output_format": "docx"}, "output_format"),
        ("speak", {"text": "a" * 100_001}, "text"),
        ("speak", {"text": "a", "speed": 9}, "speed"),
        ("speak", {"text": "a", "speed": "nan"}, "speed"),
        ("speak", {"text": "a", "output_path": "/tmp/a.mp3"}, "output_path"),
    ],
)
def test_what_cannot_be_done_names_its_argument(desk: Desk, name: str, given: dict[str, Any], param: str) -> None:
    needed = {"path": desk.recording("a")} if name == "transcribe" else {}
    with pytest.raises(ServiceError) as caught:
        desk.call(name, **{**needed, **given})
    assert caught.value.param == param
    assert not desk.inference.audio_requests
