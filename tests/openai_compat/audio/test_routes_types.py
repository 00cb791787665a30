"""Every answer of the audio routes that OpenAI has a type for is of that type, strictly: nothing is null or of another
type than its schema says."""

import json
import warnings
from typing import Any

import httpx2
import pytest
from openai.types.audio import (
    Transcription,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionVerbose,
    Translation,
    TranslationVerbose,
    Voice,
    VoiceDeleted,
)
from pydantic import BaseModel

from tests.promises import promise

SAID = [b"one two / three", b"rough: one two", b"silence", "銅鑼灣 / 好".encode()]
WORDS = {"response_format": "verbose_json", "timestamp_granularities[]": "word"}
SHAPES: list[tuple[str, dict[str, str], type[BaseModel]]] = [
    ("transcriptions", {}, Transcription),
    ("transcriptions", {"response_format": "verbose_json"}, TranscriptionVerbose),
    ("transcriptions", WORDS, TranscriptionVerbose),
    ("translations", {}, Translation),
    ("translations", {"response_format": "verbose_json"}, TranslationVerbose),
]
EVENTS: dict[str, type[BaseModel]] = {
    "transcript.text.delta": TranscriptionTextDeltaEvent,
    "transcript.text.done": TranscriptionTextDoneEvent,
}


def strictly(kind: type[BaseModel], told: Any) -> Any:
    return kind.model_validate_json(json.dumps(told, allow_nan=False), strict=True)


def post(served: Any, route: str, said: bytes, fields: dict[str, str]) -> str:
    answer = httpx2.post(f"{served.url}/v1/audio/{route}", files={"file": ("a.wav", said)}, data=fields)
    assert answer.status_code == 200, answer.text
    return answer.text


@promise("audio:formats:strict")
@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize(("route", "fields", "kind"), SHAPES)
def test_a_whole_answer_is_strictly_of_its_type(
    served: Any, route: str, fields: dict[str, str], kind: type[BaseModel], said: bytes
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = strictly(kind, json.loads(post(served, route, said, fields)))
    if kind is TranscriptionVerbose and fields is not WORDS:
        assert all(segment.compression_ratio > 0 for segment in got.segments)


@promise("audio:formats:strict")
@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize(("route", "fields"), [(route, fields) for route, fields, _ in SHAPES])
def test_every_event_is_strictly_of_its_type(served: Any, route: str, fields: dict[str, str], said: bytes) -> None:
    blocks = post(served, route, said, {**fields, "stream": "true"}).split("\n\n")
    told = [json.loads(block.removeprefix("data: ")) for block in blocks if block.startswith("data: ")]
    for event in told:
        strictly(EVENTS[event["type"]], event)
    done = strictly(TranscriptionTextDoneEvent, told[-1])
    assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens
    if fields.get("response_format") == "verbose_json":
        strictly(TranscriptionVerbose, {**told[-1], "usage": None})


@promise("audio:formats:strict")
def test_voices_are_strictly_of_their_types(served: Any) -> None:
    url = f"{served.url}/v1/audio/voices"
    form = {"name": "mine", "consent": "I agree."}
    strictly(Voice, httpx2.post(url, files={"audio_sample": ("a.wav", b"one")}, data=form).json())
    for voice in httpx2.get(url).json()["data"]:
        strictly(Voice, voice)
    strictly(VoiceDeleted, httpx2.delete(f"{url}/mine").json())
