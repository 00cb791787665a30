"""The fields `track` and `channels`, and how the track that was heard is told."""

import json
from typing import Any

import httpx2
import pytest

from tests.openai_compat.audio.test_routes_transcription import FORMATS, asked, events, post
from tests.promises import promise

FILM = b"film: one two / three"


@promise("audio:tracks:chosen")
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("route", ["transcriptions", "translations"])
def test_the_track_that_was_heard_is_told_in_every_format(served: Any, route: str, format: str) -> None:
    answer = post(served, FILM, route, response_format=format, track="1")
    assert answer.status_code == 200 and answer.headers["x-audio-track"] == "1/2" and asked(served).track == 1
    if format.endswith("json"):
        assert (answer.json()["track"], answer.json()["tracks"]) == (1, 2)
    done = events(post(served, FILM, route, response_format=format, stream="true").text)[-1]
    assert (done["track"], done["tracks"]) == (2, 2)
    assert "x-audio-track" not in post(served, b"one", route, response_format=format).headers


@pytest.mark.parametrize(
    ("given", "taken"), [("", "mix"), ("mix", "mix"), ("SEPARATE", "separate"), ("2", 2), ("-1", -1), ("0", 0)]
)
def test_channels_reach_the_decoder(served: Any, given: str, taken: object) -> None:
    assert post(served, FILM, channels=given).status_code == 200
    assert asked(served).channels == taken


def test_separate_channels_are_named_by_segments_words_and_subtitles(served: Any) -> None:
    fields: dict[str, Any] = {"channels": "separate", "timestamp_granularities[]": ["segment", "word"]}
    told = post(served, FILM, response_format="verbose_json", **fields).json()
    assert [segment["channel"] for segment in told["segments"]] == [1, 2]
    assert [word["channel"] for word in told["words"]] == [1, 1, 2]
    assert "<v Channel 2>three" in post(served, FILM, channels="separate", response_format="vtt").text
    assert "Channel 2: three" in post(served, FILM, channels="separate", response_format="srt").text
    assert "channel" not in json.dumps(post(served, FILM, response_format="verbose_json").json())


@promise("audio:fields:named")
@pytest.mark.parametrize("route", ["transcriptions", "translations", "alignments"])
@pytest.mark.parametrize(
    ("field", "value"),
    [("track", "two"), ("track", "1.5"), ("channels", "left"), ("channels", "1.5"), ("channels", "[1]")],
)
def test_what_is_no_track_or_channel_is_a_400_that_names_it(served: Any, route: str, field: str, value: str) -> None:
    answer = post(served, FILM, route, text="one", **{field: value})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == field


@promise("audio:tracks:chosen")
def test_a_track_that_is_not_there_is_a_400_with_how_many_there_are(served: Any) -> None:
    error = post(served, FILM, track="3").json()["error"]
    assert error["param"] == "track" and "2" in error["message"]


def test_an_alignment_takes_a_track_and_one_channel(served: Any) -> None:
    def aligned(**fields: str) -> httpx2.Response:
        return post(served, FILM, "alignments", text="one two", **fields)

    assert aligned(track="1", channels="2").status_code == 200
    request: Any = served.scripted.audio_requests[-1]
    assert (request.track, request.channel) == (1, 2)
    assert aligned(channels="mix").status_code == 200
    assert aligned(channels="separate").json()["error"]["param"] == "channels"
