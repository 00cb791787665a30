import json
import socket
import tracemalloc
import warnings
import zlib
from collections.abc import AsyncIterator, Callable
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio
import httpx2
import openai
import pytest

from engines.types import errors
from engines.types.audio import TranscriptionRequest
from engines.types.status import ModelStatus
from openai_compat.names import OPENAI_LISTENS, DefaultModels
from tests.promises import promise

Serve = Callable[..., Any]
LEAVES = [leaf for leaf in errors.leaves() if not leaf.__subclasses__()] + [errors.InvalidRequest]
FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
SAID = b"one two / three"


def post(served: Any, said: bytes, route: str = "transcriptions", **fields: Any) -> httpx2.Response:
    return httpx2.post(f"{served.url}/v1/audio/{route}", files={"file": ("a.wav", said)}, data=fields)


def events(body: str) -> list[Any]:
    return [json.loads(block.removeprefix("data: ")) for block in body.split("\n\n") if block.startswith("data: ")]


def asked(served: Any) -> TranscriptionRequest:
    request = served.scripted.audio_requests[-1]
    assert isinstance(request, TranscriptionRequest)
    return request


def is_empty(folder: Path) -> bool:
    return not folder.exists() or not list(folder.iterdir())


# -- formats ------------------------------------------------------------------------------------------------------


@promise("audio:formats:all")
def test_the_official_client_reads_json(client: openai.OpenAI) -> None:
    got = client.audio.transcriptions.create(file=SAID, model="whisper-1")
    assert got.text == "one two three"
    assert got.usage is not None and got.usage.to_dict() == {"type": "duration", "seconds": 1.5}
    assert [one.code for one in got.languages or []] == ["en"]


@promise("audio:formats:all")
def test_the_official_client_reads_texts_and_subtitles(client: openai.OpenAI) -> None:
    def written(format: Any) -> str:
        got = client.audio.transcriptions.create(file=SAID, model="whisper-1", response_format=format)
        assert isinstance(got, str)
        return got

    assert written("text") == "one two three\n"
    assert written("srt").startswith("1\n00:00:00,000 --> 00:00:01") and "one two" in written("srt")
    assert written("vtt").startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01") and "one two" in written("vtt")


@promise("audio:formats:all")
def test_the_official_client_reads_verbose_json(client: openai.OpenAI) -> None:
    got = client.audio.transcriptions.create(
        file=SAID,
        model="whisper-1",
        response_format="verbose_json",
        timestamp_granularities=["segment", "word"],
        temperature=0.5,
        language="English",
    )
    assert (got.text, got.language, got.duration) == ("one two three", "english", 1.5)
    assert got.segments is not None and got.words is not None
    assert [(one.id, one.seek, one.start, one.end, one.text) for one in got.segments] == [
        (0, 0, 0.0, 1.0, "one two"),
        (1, 100, 1.0, 1.5, "three"),
    ]
    assert (got.segments[0].avg_logprob, got.segments[0].no_speech_prob) == (-0.25, 0.125)
    assert (got.segments[0].compression_ratio, got.segments[0].temperature, got.segments[0].tokens) == (1.25, 0.5, [])
    assert [(one.word, one.start, one.end) for one in got.words] == [
        ("one", 0.0, 0.5),
        ("two", 0.5, 1.0),
        ("three", 1.0, 1.5),
    ]


def test_times_that_are_approximate_say_so_and_figures_that_the_model_does_not_give_are_numbers(served: Any) -> None:
    told = post(served, b"rough: one two", response_format="verbose_json").json()
    assert told["timing"] == told["segments"][0]["timing"] == "approximate"
    assert [told["segments"][0][name] for name in ("avg_logprob", "no_speech_prob")] == [0.0, 0.0]
    assert told["segments"][0]["compression_ratio"] == round(7 / len(zlib.compress(b"one two")), 4)
    assert told["language_code"] == "en" and told["task"] == "transcribe" and "words" not in told


@promise("audio:formats:types")
@pytest.mark.parametrize(
    ("format", "kind"),
    [
        ("json", "application/json"),
        ("verbose_json", "application/json"),
        ("text", "text/plain; charset=utf-8"),
        ("srt", "text/plain; charset=utf-8"),
        ("vtt", "text/vtt; charset=utf-8"),
    ],
)
def test_every_format_has_its_content_type(served: Any, format: str, kind: str) -> None:
    answer = post(served, "銅鑼灣".encode(), response_format=format)
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert "銅鑼灣" in answer.text


@promise("audio:formats:all")
@pytest.mark.parametrize("format", FORMATS)
def test_a_stream_has_progress_and_deltas_that_make_the_text(served: Any, format: str) -> None:
    told = events(post(served, SAID, response_format=format, stream="true").text)
    assert told[-1]["type"] == "transcript.text.done"
    tokens = {"input_tokens": 0, "output_tokens": 4, "total_tokens": 4}
    assert told[-1]["usage"] == {"type": "tokens", **tokens}
    deltas = [one["delta"] for one in told if one.get("delta")]
    assert "".join(deltas) == told[-1]["text"]
    assert len(deltas) == (1 if format in ("srt", "vtt") else 2)
    assert [(one["seconds"], one["total"]) for one in told if one.get("delta") == ""] == [
        (1.0, 1.5),
        (1.5, 1.5),
    ]
    whole = post(served, SAID, response_format=format)
    if format in ("json", "verbose_json"):
        answer = whole.json()
        assert answer["usage"] == {"type": "duration", "seconds": 1.5}
        assert {name: value for name, value in told[-1].items() if name != "type"} == {
            **answer,
            "usage": told[-1]["usage"],
        }
    else:
        assert told[-1]["text"].strip() == whole.text.strip()


def test_the_official_client_reads_a_stream(served: Any) -> None:
    async def run() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as client:
            stream = await client.audio.transcriptions.create(file=SAID, model="gpt-4o-transcribe", stream=True)
            deltas, text = "", ""
            async for event in stream:
                if event.type == "transcript.text.delta":
                    deltas += event.delta
                elif event.type == "transcript.text.done":
                    text = event.text
            return deltas, text

    assert anyio.run(run) == ("one two three", "one two three")


def test_a_translation_is_asked_for_and_told_as_english(client: openai.OpenAI, served: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # OpenAI gives this route up
        got = client.audio.translations.create(file=SAID, model="whisper-1", response_format="verbose_json")
    assert (got.text, got.language) == ("one two three", "english")
    assert asked(served).translate and asked(served).model == "whisper-large-v3"
    told = post(served, SAID, "translations", response_format="verbose_json", language="zh").json()
    assert (told["task"], told["language"]) == ("translate", "english")


@promise("audio:retry:apart")
def test_whose_a_recording_is_goes_by_the_key(serve: Serve) -> None:
    def tenant(served: Any, **headers: Any) -> str:
        httpx2.post(f"{served.url}/v1/audio/transcriptions", files={"file": SAID}, headers=headers)
        return asked(served).tenant

    served = serve(api_keys=("first", "clé"))
    first = tenant(served, Authorization="Bearer first")
    assert first == tenant(served, **{"X-Api-Key": "first"}) != ""
    second = {tenant(served, Authorization=b"Bearer " + "clé".encode(coding)) for coding in ("utf-8", "latin-1")}
    assert len(second) == 1 and first not in second and "first" not in first
    served = serve()
    assert tenant(served) == tenant(served, Authorization="Bearer any") == ""


def test_a_language_that_the_text_does_not_tell_is_null(served: Any) -> None:
    answer = post(served, b"anything", "alignments", text="hello").json()
    assert (answer["language"], answer["language_code"]) == (None, None)


def test_the_words_of_a_text_are_aligned(served: Any) -> None:
    answer = post(served, b"anything", "alignments", text="你好 there", language="Cantonese")
    assert answer.json() == {
        "words": [{"word": "你好", "start": 0.0, "end": 0.5}, {"word": "there", "start": 0.5, "end": 1.0}],
        "language": "cantonese",
        "language_code": "yue",
        "duration": 1.0,
    }
    assert served.scripted.audio_requests[-1].model == "qwen3-aligner"


# -- models and fields --------------------------------------------------------------------------------------------


@promise("audio:names:openai")
@pytest.mark.parametrize("model", ["whisper-large-v3-turbo", "qwen3-asr"])
def test_openais_names_and_none_are_the_ports_default(serve: Serve, model: str) -> None:
    served = serve(defaults=DefaultModels(transcription=model))
    for name in ("", *sorted(OPENAI_LISTENS), "Whisper-1"):
        assert post(served, SAID, model=name).status_code == 200
        assert asked(served).model == model


def test_a_model_that_is_called_like_one_of_openais_is_itself(served: Any) -> None:
    served.scripted._models["whisper-1"] = ModelStatus(("whisper-1",), "transcription", "ready", installed=True)
    assert post(served, SAID, model="whisper-1").status_code == 200
    assert asked(served).model == "whisper-1"


@pytest.mark.parametrize(
    ("model", "code"), [("nobody", "model_not_found"), ("qwen3-14b", "wrong_capability"), ("tts-1", "model_not_found")]
)
@pytest.mark.parametrize("stream", ["true", "false"])
def test_a_model_that_is_none_or_does_something_else_is_an_error(
    served: Any, model: str, code: str, stream: str
) -> None:
    assert post(served, SAID, model=model, stream=stream).json()["error"]["code"] == code


def test_fields_reach_the_model_and_what_has_no_effect_is_told_back(served: Any) -> None:
    answer = post(
        served, SAID, prompt="x" * 10_000, hotwords="Ann, Bo", temperature="0.2", script="simplified", vad="1"
    )
    assert answer.headers["x-ignored-fields"] == "vad"
    request = asked(served)
    assert (len(request.prompt), request.hotwords, request.temperature) == (10_000, ("Ann", "Bo"), 0.2)
    assert (request.script, request.trace) == ("simplified", answer.headers["x-request-id"])


# -- what goes wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", ["true", "false"])
def test_every_error_has_its_status_and_openais_shape(served: Any, scratch: Path, stream: str) -> None:
    for leaf in LEAVES:
        answer = post(served, f"fail: {leaf.code}".encode(), stream=stream)
        error = answer.json()["error"]
        assert (answer.status_code, error["type"], error["code"]) == (leaf.status, leaf.type, leaf.code)
    assert is_empty(scratch)


def test_a_failure_in_the_middle_is_told_in_the_stream_and_by_its_status_in_a_whole_answer(served: Any) -> None:
    told = events(post(served, b"crash: one / two", stream="true").text)
    assert [one.get("delta", one.get("error", {}).get("code")) for one in told] == ["one", "", "runner_died"]
    assert post(served, b"crash: one / two").status_code == 503


@promise("audio:incomplete:told")
@pytest.mark.parametrize("format", FORMATS)
def test_a_transcript_that_is_incomplete_says_so_in_every_format(served: Any, format: str) -> None:
    answer = post(served, b"cut: one", response_format=format)
    assert answer.headers["x-incomplete"] == "The recording ends early; what there is of it is written down."
    if format in ("json", "verbose_json"):
        assert answer.json()["incomplete"] == [answer.headers["x-incomplete"]]
    told = events(post(served, b"cut: one", response_format=format, stream="true").text)
    assert told[-1]["incomplete"] == [answer.headers["x-incomplete"]]
    assert "x-incomplete" not in post(served, b"one", response_format=format).headers


@promise("audio:incomplete:told")
def test_a_repetition_is_marked(served: Any) -> None:
    answer = post(served, b"loop: one / two", response_format="verbose_json")
    assert [one.get("looped") for one in answer.json()["segments"]] == [True, None]
    assert "repeats" in unquote(answer.headers["x-incomplete"])


def by_hand(served: Any, body: bytes, *headers: str) -> Any:
    """Status and JSON of a request that no client mended."""
    head = ["POST /v1/audio/transcriptions HTTP/1.1", "Host: 127.0.0.1", *headers, f"Content-Length: {len(body)}"]
    with socket.create_connection(("127.0.0.1", served.port)) as wire, HTTPResponse(wire) as answer:
        wire.sendall("\r\n".join([*head, "", ""]).encode() + body)
        answer.begin()
        return answer.status, json.loads(answer.read())


def part(name: str, data: bytes, more: str = "") -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + data + b"\r\n"


FORM = "Content-Type: multipart/form-data; boundary=b"
NAMED = '; filename="../../etc/a.wav"'


@promise("audio:upload:broken")
@pytest.mark.parametrize(
    ("header", "body", "param"),
    [
        (FORM, part("model", b"m") + b"--b--\r\n", "file"),
        (FORM, part("file", b"a", NAMED) * 2 + b"--b--\r\n", "file"),
        (FORM, part("file", b"", NAMED) + b"--b--\r\n", "file"),
        (FORM, part("prompt", b"x" * (2 << 20)) + part("file", b"a", NAMED) + b"--b--\r\n", "prompt"),
        (FORM, part("file", b"one", NAMED), None),
        (FORM, b"--c" + part("file", b"one", NAMED), None),
        ("Content-Type: multipart/form-data", part("file", b"one", NAMED) + b"--b--\r\n", None),
        ("Content-Type: application/json", b'{"file": "/etc/passwd"}', None),
        ("X-None: 1", b"", None),
    ],
    ids=["no file", "two files", "empty", "huge", "unfinished", "boundary", "no boundary", "json", "nothing"],
)
def test_a_bad_upload_is_a_400_in_openais_shape_and_nothing_stays_of_it(
    served: Any, scratch: Path, header: str, body: bytes, param: str | None
) -> None:
    status, answer = by_hand(served, body, header)
    assert (status, answer["error"]["type"], answer["error"]["param"]) == (400, "invalid_request_error", param)
    assert is_empty(scratch) and served.scripted.audio_requests == []


@promise("audio:upload:names")
def test_a_hostile_name_is_not_used(served: Any, scratch: Path) -> None:
    status, answer = by_hand(served, part("file", b"one", NAMED) + b"--b--\r\n", FORM)
    assert (status, answer["text"]) == (200, "one")
    assert Path(asked(served).path).is_relative_to(scratch)
    served.until(lambda scripted: is_empty(scratch))


@promise("audio:upload:spooled")
def test_an_upload_of_any_size_takes_little_memory_and_comes_whole(served: Any, scratch: Path) -> None:
    size, block = 20 << 20, bytes(range(256)) * 256

    async def body() -> AsyncIterator[bytes]:
        yield part("file", b"", NAMED)[:-2]
        for _ in range(size // len(block)):
            yield block
        yield b"\r\n--b--\r\n"

    async def run() -> str:
        async with httpx2.AsyncClient(timeout=60) as client:
            headers = {"Content-Type": "multipart/form-data; boundary=b"}
            url = f"{served.url}/v1/audio/transcriptions"
            return str((await client.post(url, content=body(), headers=headers)).json()["text"])

    post(served, b"one")
    tracemalloc.start()
    try:
        assert anyio.run(run) == f"{size} bytes"
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()
    served.until(lambda scripted: is_empty(scratch))


@promise("http:boundary:size")
@pytest.mark.parametrize("declared", [True, False])
def test_an_upload_has_a_limit_of_its_own(serve: Serve, scratch: Path, declared: bool) -> None:
    served = serve(max_body_bytes=1000, max_upload_bytes=10_000, scratch=str(scratch))
    assert post(served, b"x" * 5000).status_code == 200
    body = part("file", b"x" * 20_000, NAMED) + b"--b--\r\n"
    answer = httpx2.post(
        f"{served.url}/v1/audio/transcriptions",
        content=body if declared else iter([body]),
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert "10000" in answer.text and is_empty(scratch)


@pytest.mark.parametrize("route", ["chat/completions", "audio/speech", "audio/transcriptions"])
def test_the_limit_of_uploads_is_for_forms_with_recordings_alone(serve: Serve, route: str) -> None:
    served = serve(max_body_bytes=1000, max_upload_bytes=10_000)
    kind = "multipart/form-data; boundary=b" if route == "chat/completions" else "application/json"
    answer = httpx2.post(f"{served.url}/v1/{route}", content=b"x" * 2000, headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


# -- leaving ------------------------------------------------------------------------------------------------------


@promise("core:leave:frees-the-place")
@pytest.mark.parametrize(
    ("route", "fields"),
    [
        ("transcriptions", {"stream": b"true"}),
        ("transcriptions", {"stream": b"false"}),
        ("translations", {}),
        ("alignments", {"text": b"hang"}),
    ],
)
@pytest.mark.parametrize("said", [b"hang", b"wait: one"])
def test_a_client_that_leaves_ends_its_work_and_nothing_stays(
    served: Any, scratch: Path, route: str, fields: dict[str, bytes], said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    body = b"".join(part(name, data) for name, data in fields.items()) + part("file", said, NAMED) + b"--b--\r\n"
    head = f"POST /v1/audio/{route} HTTP/1.1\r\nHost: 127.0.0.1\r\n{FORM}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port)) as wire:
        wire.sendall(head.encode() + body)
        served.until(lambda scripted: scripted.active == 1)
        assert not is_empty(scratch)
    served.until(lambda scripted: scripted.ended["cancelled"] == 1)
    served.until(lambda scripted: is_empty(scratch))
    served.close()
    assert not [one for one in caplog.records if one.levelname == "ERROR"]


@promise("audio:upload:spooled")
def test_a_client_that_leaves_while_it_uploads_leaves_nothing(
    served: Any, scratch: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head = f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: 127.0.0.1\r\n{FORM}\r\nContent-Length: 999999\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port)) as wire:
        wire.sendall(head.encode() + part("file", b"x" * 400_000, NAMED))
        served.until(lambda scripted: any(scratch.glob("*/*")))
    served.until(lambda scripted: is_empty(scratch))
    served.close()
    assert not [one for one in caplog.records if one.levelname == "ERROR"]


def test_a_silent_stream_is_kept_alive_and_loses_nothing(serve: Serve) -> None:
    served = serve(admission_seconds=0.05, keepalive_seconds=0.05)
    url, files = f"{served.url}/v1/audio/transcriptions", {"file": b"wait: one / two"}
    with httpx2.stream("POST", url, files=files, data={"stream": "true"}) as answer:
        lines = answer.iter_lines()
        seen = 0
        while seen < 3:
            seen += next(lines) == ": keep-alive"
        served.call(served.scripted.release)
        rest = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert rest[-1]["text"] == "one two" and rest[0] == {"type": "transcript.text.delta", "delta": "one"}
