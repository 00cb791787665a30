"""Recordings and speech as users meet them: their curl lines and clients, on a service that runs the demo's models."""

import asyncio
import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import httpx2
import openai
import psutil
import pytest
from mcp import Client
from mcp_types import CallToolResult, TextContent

from demo.recordings import BundledRecording, recordings
from tests.end_to_end.conftest import Service, Start, until
from tests.promises import promise
from tests.sounds import beeps, seconds_of

SPOKEN = recordings()
FIRST = SPOKEN[0]


@pytest.fixture(scope="module")
def audio(service: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.audio_url}/v1", api_key="any", max_retries=0)


def transcribe(url: str, file: Path, **fields: str) -> httpx2.Response:
    with file.open("rb") as opened:
        files = {"file": (file.name, opened)}
        return httpx2.post(f"{url}/v1/audio/transcriptions", files=files, data=fields, timeout=100)


def text_of(result: CallToolResult) -> str:
    return "".join(block.text for block in result.content if isinstance(block, TextContent))


def resident(service: Service) -> int:
    """Bytes of the server and all its children."""
    return sum(one.memory_info().rss for one in [psutil.Process(service.process.pid), *service.children()])


@promise("audio:curl")
@pytest.mark.parametrize(
    "model", ["mlx-community/Qwen3-ASR-1.7B-8bit", "Qwen3-ASR-1.7B-8bit", "qwen3-asr", "whisper-1", ""]
)
@pytest.mark.parametrize("recording", SPOKEN, ids=lambda one: one.name)
def test_bundled_recordings_are_transcribed_on_the_audio_port(
    service: Service, recording: BundledRecording, model: str
) -> None:
    answer = transcribe(service.audio_url, recording.path, model=model)
    assert answer.status_code == 200, answer.text
    assert answer.json()["text"] == recording.text


@promise("audio:curl")
def test_users_curl_lines_work_as_they_stand(service: Service, tmp_path: Path) -> None:
    wav = FIRST.path
    hear = ["curl", "-sS", f"{service.audio_url}/v1/audio/transcriptions", "-F", f"file=@{wav}"]
    hear += ["-F", "model=mlx-community/Qwen3-ASR-1.7B-8bit", "-F", "language=en"]
    assert json.loads(subprocess.run(hear, capture_output=True, check=True, timeout=60).stdout)["text"]
    speech = tmp_path / "speech.wav"
    said = '{"model":"mlx-community/Qwen3-TTS-12Hz-1.7B-CustomVoice-8bit","input":"你好世界"}'
    speak = ["curl", "-sS", f"{service.audio_url}/v1/audio/speech", "-d", said, "-o", str(speech)]
    subprocess.run(speak, check=True, timeout=60)
    assert speech.read_bytes()[:4] == b"RIFF" and seconds_of(speech) > 0.3


def test_whisper_listens_on_the_main_port_and_tells_times(service: Service) -> None:
    fields = {"model": "whisper-large-v3-turbo", "response_format": "verbose_json"}
    answer = transcribe(service.url, FIRST.path, **fields).json()
    assert answer["duration"] == pytest.approx(seconds_of(FIRST.path), abs=0.06)
    assert answer["task"] == "transcribe"


@promise("audio:refused-early")
@pytest.mark.parametrize("content", [b"", b"hello", b"RIFF\x00\x00\x00\x00WAVE", b"\x89PNG\r\n\x1a\n" + bytes(64)])
def test_a_file_that_is_no_recording_is_refused_without_a_model(
    service: Service, tmp_path: Path, content: bytes
) -> None:
    service.all_unloaded()
    (tmp_path / "a.wav").write_bytes(content)
    answer = transcribe(service.audio_url, tmp_path / "a.wav", model="qwen3-asr")
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "file"
    assert str(tmp_path) not in answer.text and service.model("qwen3-asr")["phase"] == "unloaded"


def test_every_format_of_the_official_client(audio: openai.OpenAI) -> None:
    for format, mark in (("text", ""), ("srt", "-->"), ("vtt", "WEBVTT")):
        with FIRST.path.open("rb") as file:
            text: Any = audio.audio.transcriptions.create(model="qwen3-asr", file=file, response_format=format)  # type: ignore[call-overload]
        assert isinstance(text, str) and mark in text
    with FIRST.path.open("rb") as file:
        events = list(audio.audio.transcriptions.create(model="qwen3-asr", file=file, stream=True))
    deltas = "".join(event.delta for event in events if event.type == "transcript.text.delta")
    assert deltas == FIRST.text == events[-1].text  # type: ignore[union-attr]


@promise("audio:leave")
def test_leaving_in_mid_file_frees_the_engine_within_a_second(service: Service, tmp_path: Path) -> None:
    long = beeps(tmp_path / "long.wav", minutes=20)
    assert transcribe(service.audio_url, FIRST.path, model="qwen3-asr").status_code == 200
    with (
        long.open("rb") as file,
        httpx2.Client(timeout=60) as client,
        client.stream(
            "POST",
            f"{service.audio_url}/v1/audio/transcriptions",
            files={"file": ("long.wav", file)},
            data={"model": "qwen3-asr", "stream": "true"},
        ) as answer,
    ):
        until(lambda: service.model("qwen3-asr")["running"] > 0)
        answer.close()
    until(lambda: service.model("qwen3-asr")["running"] == 0, seconds=1.5)


@promise("audio:media:death")
def test_a_media_process_that_is_killed_costs_its_request_and_no_other(service: Service, tmp_path: Path) -> None:
    long = beeps(tmp_path / "long.wav", minutes=20)
    answers: list[httpx2.Response] = []
    asking = threading.Thread(target=lambda: answers.append(transcribe(service.audio_url, long, model="qwen3-asr")))
    asking.start()
    media = until(lambda: [one for one in service.children() if "engines.media.worker.main" in " ".join(one.cmdline())])
    until(lambda: service.model("qwen3-asr")["running"] > 0)
    media[0].kill()
    asking.join(60)
    assert answers[0].status_code == 503 and "error" in answers[0].json()
    again = transcribe(service.audio_url, FIRST.path, model="qwen3-asr")
    assert again.json()["text"] == FIRST.text


@promise("audio:memory")
def test_a_long_recording_costs_no_more_memory_than_a_short_one(service: Service, tmp_path: Path) -> None:
    short, long = beeps(tmp_path / "short.wav", minutes=2), beeps(tmp_path / "long.wav", minutes=60, dense=False)
    assert transcribe(service.audio_url, short, model="qwen3-asr").status_code == 200
    before = resident(service)
    answer = transcribe(service.audio_url, long, model="qwen3-asr", response_format="verbose_json").json()
    assert answer["duration"] == pytest.approx(seconds_of(long), abs=1) and answer["duration"] >= 3600
    assert resident(service) - before < 64 << 20


def test_speech_is_streamed_and_heard_again_whole(service: Service, tmp_path: Path) -> None:
    text = "Hello, this is the local recording."  # which the demo's voice says whole, however it draws
    for format in ("mp3", "opus", "aac", "wav", "flac"):
        body = {"model": "tts-1", "input": text, "voice": "alloy", "response_format": format}
        with httpx2.stream("POST", f"{service.audio_url}/v1/audio/speech", json=body, timeout=100) as answer:
            assert answer.status_code == 200
            data = b"".join(answer.iter_raw())
        (tmp_path / f"a.{format}").write_bytes(data)
        assert seconds_of(tmp_path / f"a.{format}") > 0.3


def test_agents_transcribe_and_speak_by_paths(service: Service) -> None:

    async def main() -> None:
        async with asyncio.timeout(60), Client(f"{service.url}/mcp") as client:
            heard = await client.call_tool("transcribe", {"path": str(FIRST.path)})
            assert text_of(heard) == FIRST.text
            spoken = await client.call_tool("speak", {"text": "Hello, this is the local recording."})
            assert spoken.meta is not None
            heard = await client.call_tool("transcribe", {"path": spoken.meta["path"]})
            assert text_of(heard) == "hello this is the local recording"

    asyncio.run(main())


def test_nothing_of_an_upload_is_left(service: Service) -> None:
    server = psutil.Process(service.process.pid)
    assert not [one for one in server.open_files() if "uploads" in one.path]


@promise("core:server:stopped")
def test_a_stop_in_mid_recording_lets_it_be_written_down_whole(start: Start, tmp_path: Path) -> None:
    long = beeps(tmp_path / "long.wav", minutes=6)
    with start("--stop-grace", "60") as service, long.open("rb") as file, httpx2.Client(timeout=100) as client:
        fields = {"model": "qwen3-asr", "stream": "true", "response_format": "verbose_json"}
        url = f"{service.audio_url}/v1/audio/transcriptions"
        with client.stream("POST", url, files={"file": ("long.wav", file)}, data=fields) as answer:
            lines = (line for line in answer.iter_lines() if line.startswith("data: "))
            told = [json.loads(line.removeprefix("data: ")) for line in [next(lines)]]
            service.process.terminate()
            late = transcribe(service.audio_url, FIRST.path, model="qwen3-asr")
            assert (late.status_code, late.json()["error"]["code"]) == (503, "shutting_down")
            told += [json.loads(line.removeprefix("data: ")) for line in lines]
        assert service.process.wait(20) == 0
    assert told[-1]["type"] == "transcript.text.done", told[-1]
    assert told[-1]["duration"] == pytest.approx(360, abs=1)
