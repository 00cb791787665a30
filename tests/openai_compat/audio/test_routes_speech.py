import base64
import errno
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import httpx2
import openai
import pytest
from openai.types.audio import speech_create_params
from openai.types.audio.speech_model import SpeechModel

from engines.types import errors
from engines.types.audio import SpeechRequest
from openai_compat.names import DefaultModels
from tests.promises import promise

Serve = Callable[..., Any]
LEAVES = [leaf for leaf in errors.leaves() if not leaf.__subclasses__()] + [errors.InvalidRequest]
TYPES = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "opus": "audio/ogg;codecs=opus",
    "aac": "audio/aac",
    "pcm": "audio/pcm;rate=24000;channels=1",
}
OPENAI_VOICES = get_args(next(one for one in get_args(speech_create_params.Voice) if get_args(one)))
ROADS: list[dict[str, Any]] = [{}, {"stream": True}, {"stream_format": "sse"}]
LOST = "The last sentence is cut; ask for it again."


def post(served: Any, text: str, **fields: Any) -> httpx2.Response:
    return httpx2.post(f"{served.url}/v1/audio/speech", json={"model": "qwen3-tts", "input": text, **fields})


def events(body: str) -> list[Any]:
    return [json.loads(block.removeprefix("data: ")) for block in body.split("\n\n") if block.startswith("data: ")]


def asked(served: Any) -> SpeechRequest:
    request = served.scripted.audio_requests[-1]
    assert isinstance(request, SpeechRequest)
    return request


def is_empty(folder: Path) -> bool:
    return not folder.exists() or not list(folder.iterdir())


# -- the sound ----------------------------------------------------------------------------------------------------


@promise("audio:names:openai")
@pytest.mark.parametrize("model", get_args(SpeechModel))
def test_the_official_client_gets_speech_with_openais_names(client: openai.OpenAI, served: Any, model: Any) -> None:
    assert len(OPENAI_VOICES) == 13
    for voice in OPENAI_VOICES:
        for format in TYPES:
            got = client.audio.speech.create(input="你好.", model=model, voice=voice, response_format=format)  # type: ignore[arg-type]
            assert got.read() == f"{format}:你好.".encode()
        assert (asked(served).voice, asked(served).model) == (voice, "qwen3-tts")


@pytest.mark.parametrize("stream", [True, False, None])
def test_every_format_has_its_content_type_and_is_streamed_or_whole(served: Any, stream: bool | None) -> None:
    for format, kind in TYPES.items():
        answer = post(served, "One. Two.", response_format=format, stream=stream)
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert answer.content == f"{format}:One. Two.".encode()
        whole = stream is False or (stream is None and format in ("wav", "flac"))
        assert ("content-length" in answer.headers) == whole


def test_wav_is_what_comes_if_nothing_is_said(served: Any) -> None:
    answer = httpx2.post(f"{served.url}/v1/audio/speech", json={"input": "hi"})
    assert (answer.headers["content-type"], answer.content) == ("audio/wav", b"wav:hi")


def test_the_rate_of_raw_samples_is_told(served: Any) -> None:
    answer = post(served, "hi", response_format="pcm", sample_rate=8000)
    assert answer.headers["content-type"] == "audio/pcm;rate=8000;channels=1"


@pytest.mark.parametrize("road", ROADS[1:])
def test_sound_leaves_as_it_is_made(served: Any, road: dict[str, Any]) -> None:
    body = {"model": "qwen3-tts", "input": "pause: One. Two.", "response_format": "mp3", **road}
    with httpx2.stream("POST", f"{served.url}/v1/audio/speech", json=body) as answer:
        pieces = answer.iter_raw()
        first = next(pieces)
        assert first.startswith(b"mp3:" if "stream" in road else b"data: ")
        served.call(served.scripted.release)
        rest = b"".join(pieces)
    assert b"One. Two." in rest or b"speech.audio.done" in rest


@pytest.mark.parametrize("fields", [{}, {"response_format": "mp3"}, {"response_format": "mp3", "stream": False}])
def test_openais_events_hold_the_same_bytes(served: Any, fields: dict[str, Any]) -> None:
    text = "word " * 15_000
    *deltas, done = events(post(served, text, stream_format="sse", **fields).text)
    assert {one["type"] for one in deltas} == {"speech.audio.delta"}
    sound = b"".join(base64.b64decode(one["audio"], validate=True) for one in deltas)
    assert sound == post(served, text, **fields).content
    assert done == {
        "type": "speech.audio.done",
        "usage": {"input_tokens": 15_000, "output_tokens": 180_000_000, "total_tokens": 180_015_000},
        "seconds": 7500.0,
    }


def test_fields_reach_the_model(served: Any) -> None:
    fields = {"voice": {"id": "vivian"}, "speed": 0.5, "instructions": "sadly", "language": "广东话", "seed": 7}
    answer = post(served, "hi", sample_rate=16000, zebra=1, **fields)
    assert answer.headers["x-ignored-fields"] == "zebra"
    assert asked(served) == SpeechRequest(
        model="qwen3-tts",
        text="hi",
        voice="vivian",
        language="yue",
        instructions="sadly",
        speed=0.5,
        sample_rate=16000,
        seed=7,
        trace=answer.headers["x-request-id"],
    )


def test_odd_texts_are_texts(served: Any) -> None:
    for text in ("[pause:1s] hi", "<speak>", "…", "\u200b", "\ufeff你好", "\x00", "שלום", "x", "😀", "   ", "。。。"):
        assert post(served, text).status_code == 200
        assert asked(served).text == text


def test_a_port_has_its_own_default(serve: Serve) -> None:
    served = serve(defaults=DefaultModels(speech="qwen3-asr"))
    answer = httpx2.post(f"{served.url}/v1/audio/speech", json={"model": "tts-1", "input": "hi"})
    assert answer.json()["error"]["code"] == "wrong_capability"


# -- what goes wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("road", ROADS)
def test_an_error_before_the_first_sound_has_its_status(served: Any, road: dict[str, Any]) -> None:
    for leaf in LEAVES:
        answer = post(served, f"fail: {leaf.code}", **road)
        error = answer.json()["error"]
        assert (answer.status_code, error["type"], error["code"]) == (leaf.status, leaf.type, leaf.code)


@pytest.mark.parametrize("road", ROADS)
def test_a_voice_that_is_none_is_refused_with_the_list(served: Any, road: dict[str, Any]) -> None:
    answer = post(served, "hi", voice="nobody", **road)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "voice")
    assert "serena" in answer.json()["error"]["message"]


def test_a_text_that_is_too_long_is_refused_with_the_limit(serve: Serve) -> None:
    served = serve(max_input_characters=10)
    answer = post(served, "x" * 11)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")
    assert "10" in answer.json()["error"]["message"] and post(served, "x" * 10).status_code == 200


@promise("audio:incomplete:told")
@pytest.mark.parametrize("text", ["cut: One. Two.", "crash: One. Two."])
def test_a_plain_stream_that_is_incomplete_is_broken_off(served: Any, text: str) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        post(served, text, response_format="mp3")
    assert post(served, "One.", response_format="mp3").status_code == 200


@promise("audio:incomplete:told")
def test_the_official_client_notices_a_broken_stream(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIConnectionError):
        client.audio.speech.create(input="cut: One. Two.", model="tts-1", voice="alloy", response_format="mp3")


@promise("audio:incomplete:told")
def test_an_answer_that_is_incomplete_says_so(served: Any) -> None:
    whole = post(served, "cut: One. Two.")
    assert (whole.status_code, whole.headers["x-incomplete"], whole.content) == (200, LOST, b"wav:One. Two.")
    assert events(post(served, "cut: One.", stream_format="sse").text)[-1]["incomplete"] == [LOST]
    assert "x-incomplete" not in post(served, "One.").headers


def test_a_crash_in_the_middle_is_an_event_or_a_status(served: Any) -> None:
    told = events(post(served, "crash: One.", stream_format="sse", response_format="mp3").text)
    assert [one.get("type") or one["error"]["code"] for one in told] == ["speech.audio.delta", "runner_died"]
    answer = post(served, "crash: One.")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@promise("core:leave:frees-the-place")
@pytest.mark.parametrize("text", ["hang", "wait: One.", "pause: One."])
@pytest.mark.parametrize("road", ROADS)
def test_a_client_that_leaves_ends_its_work(
    served: Any, road: dict[str, Any], text: str, caplog: pytest.LogCaptureFixture
) -> None:
    body = json.dumps({"model": "qwen3-tts", "input": text, **road}).encode()
    head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port)) as wire:
        wire.sendall(head.encode() + body)
        served.until(lambda scripted: scripted.active == 1)
    served.until(lambda scripted: scripted.active == 0 and scripted.ended["cancelled"] == 1)
    served.close()
    assert not [one for one in caplog.records if one.levelname == "ERROR"]


# -- voices -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("road", ROADS)
def test_a_voice_is_imitated_from_an_upload_or_a_data_url(served: Any, scratch: Path, road: dict[str, Any]) -> None:
    texts = {name: str(value).lower() for name, value in road.items()}
    uploaded = httpx2.post(
        f"{served.url}/v1/audio/speech",
        files={"reference_audio": ("../x.wav", b"RIFF")},
        data={"input": "hi", "reference_text": "said", **texts},
    )
    url = "data:audio/wav;base64," + base64.b64encode(b"RIFF").decode()
    given = post(served, "hi", reference_audio=url, reference_text="said", **road)
    for answer in (uploaded, given):
        data = answer.content
        if road.get("stream_format"):
            data = b"".join(base64.b64decode(one["audio"]) for one in events(answer.text)[:-1])
        assert (answer.status_code, data) == (200, b"wav:[RIFF|said]hi")
    assert Path(asked(served).reference_path).is_relative_to(scratch)
    served.until(lambda scripted: is_empty(scratch))


@pytest.mark.parametrize("url", ["/etc/passwd", "file:///etc/passwd", "http://127.0.0.1/x", "data:;base64,%%%"])
def test_a_reference_is_never_a_path_or_a_link(served: Any, scratch: Path, url: str) -> None:
    answer = post(served, "hi", reference_audio=url)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "reference_audio")
    assert is_empty(scratch) and served.scripted.audio_requests == []


class Broken(dict[str, Any]):
    """Voices on a disk that can't be written."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def __setitem__(self, name: str, voice: Any) -> None:
        raise OSError(self._number, "broken")


def store(served: Any, **fields: Any) -> httpx2.Response:
    return httpx2.post(f"{served.url}/v1/audio/voices", files={"file": b"RIFF"}, data=fields)


@pytest.mark.parametrize("model", ["", "tts-1"])
def test_where_no_model_of_ours_is_named_a_recorded_voice_gets_one_that_imitates(served: Any, model: str) -> None:
    store(served, name="Ann", consent="Ann agreed.")
    for voice, meant in (("Ann", "qwen3-tts-base"), ("serena", "qwen3-tts"), ("alloy", "qwen3-tts")):
        post(served, "hi", model=model, voice=voice)
        assert asked(served).model == meant, voice
    post(served, "hi", model=model, reference_audio="data:audio/wav;base64,UklGRg==")
    assert asked(served).model == "qwen3-tts-base"
    post(served, "hi", voice="Ann")
    assert asked(served).model == "qwen3-tts"


@promise("audio:voices:consent")
def test_a_voice_is_stored_listed_spoken_with_and_deleted(client: openai.OpenAI, served: Any, scratch: Path) -> None:
    made = client.audio.voices.create(name="ann", audio_sample=b"RIFF", consent="Ann agreed on Monday.")
    assert (made.id, made.name, made.object, made.type) == ("ann", "ann", "audio.voice", "audio_sample")
    assert served.scripted.stored["ann"].consent == "Ann agreed on Monday."
    listed = httpx2.get(f"{served.url}/v1/audio/voices", params={"model": "tts-1"}).json()
    assert [(one["id"], one["stored"]) for one in listed["data"]] == [
        ("serena", False),
        ("vivian", False),
        ("ann", True),
    ]
    assert listed["object"] == "list" and listed["voices"] == listed["data"]
    assert post(served, "hi", voice={"id": "ann"}).status_code == 200
    gone = client.audio.voices.delete("ann")
    assert (gone.id, gone.deleted, gone.object) == ("ann", True, "audio.voice.deleted")
    assert post(served, "hi", voice="ann").status_code == 400
    again = httpx2.delete(f"{served.url}/v1/audio/voices/ann")
    assert (again.status_code, again.json()["error"]["param"]) == (404, "name")
    assert again.json()["error"]["code"] == "voice_not_found"
    served.until(lambda scripted: is_empty(scratch))


@promise("audio:voices:consent")
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"name": "ann"}, "consent"),
        ({"consent": "Ann agreed."}, "name"),
        ({"name": "../ann", "consent": "Ann agreed."}, "name"),
        ({"name": "serena", "consent": "Ann agreed."}, "name"),
        ({"name": "ann", "consent": "Ann agreed.", "type": "prompt"}, "type"),
        ({"name": "ann", "consent": "Ann agreed.", "prompt": "an old man"}, "prompt"),
    ],
)
def test_a_voice_without_consent_or_a_good_name_is_refused(served: Any, fields: dict[str, str], param: str) -> None:
    answer = store(served, **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert served.scripted.stored == {}


@pytest.mark.parametrize(
    ("number", "status", "code"),
    [(errno.ENOSPC, 507, "does_not_fit"), (errno.EDQUOT, 507, "does_not_fit"), (errno.EIO, 500, "internal_error")],
)
def test_a_full_disk_is_told_as_such(served: Any, scratch: Path, number: int, status: int, code: str) -> None:
    served.scripted.stored = Broken(number)
    answer = store(served, name="ann", consent="Ann agreed.")
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    served.until(lambda scripted: is_empty(scratch))


def test_a_name_of_a_voice_may_be_any_text_in_its_path(served: Any) -> None:
    assert store(served, name="安 娜", consent="Ann agreed.").status_code == 200
    assert httpx2.delete(f"{served.url}/v1/audio/voices/%E5%AE%89%20%E5%A8%9C").json()["id"] == "安 娜"
    assert httpx2.delete(f"{served.url}/v1/audio/voices/..%2F..%2Fetc").status_code == 404


def test_voices_are_of_models_that_speak(served: Any) -> None:
    answer = httpx2.get(f"{served.url}/v1/audio/voices", params={"model": "qwen3-14b"})
    assert answer.json()["error"]["code"] == "wrong_capability"


def test_a_method_that_the_voices_lack_is_told_those_that_they_have(served: Any) -> None:
    answer = httpx2.put(f"{served.url}/v1/audio/voices")
    assert answer.status_code == 405 and {"GET", "POST"} <= set(answer.headers["allow"].split(", "))
