import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from engines.audio_types import (
    EAR_RATE,
    Aligned,
    AlignmentDone,
    AlignmentRequest,
    AlignRequest,
    PieceDone,
    PieceRequest,
    Segment,
    Word,
)
from engines.errors import InvalidRequest, RunnerDied, UnknownModel
from engines.events import last
from engines.media.client import Decoded
from engines.speech.alignment import MOST_SECONDS, Alignment
from engines.speech.with_words import WithWords
from engines.types import Started, Timings, Usage

WORDS = (Word("你", 0.1, 0.3), Word("好", 0.3, 0.5))


class Media:
    def __init__(self, decoded: Decoded | Exception) -> None:
        self.decoded = decoded
        self.asked: list[tuple[str, int, float]] = []

    async def decode(self, path: str, rate: int, longest_seconds: float) -> Decoded:
        self.asked.append((path, rate, longest_seconds))
        if isinstance(self.decoded, Exception):
            raise self.decoded
        return self.decoded


class Model:
    def __init__(self, deaths: int = 0) -> None:
        self.deaths = deaths
        self.requests: list[AlignmentRequest] = []

    async def place(self, request: AlignmentRequest) -> AsyncGenerator[Started | AlignmentDone]:
        self.requests.append(request)
        yield Started("m", 1)
        if len(self.requests) <= self.deaths:
            raise RunnerDied("It died.")
        yield AlignmentDone(WORDS, Usage(1, 1), Timings(0, 0, 0))


async def name(model: str) -> str:
    if model == "nobody":
        raise UnknownModel("There is no such model.", param="model")
    return "main-name"


CLIP = Decoded(b"1234", 2.5, False)


def align(media: Media, listener: Model, **fields: Any) -> Aligned:
    request = AlignRequest(**{"model": "m", "path": "/file", "text": "你好", **fields})
    return asyncio.run(Alignment(media, name, listener.place).run(request))


def test_the_words_of_a_clip_are_placed() -> None:
    media, model = Media(CLIP), Model()
    assert align(media, model, language="Mandarin", trace="t") == Aligned(WORDS, "zh", 2.5)
    assert media.asked == [("/file", EAR_RATE, MOST_SECONDS)]
    assert model.requests == [AlignmentRequest("main-name", b"1234", "你好", "zh", "t")]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("你好", "zh"),
        ("佢喺度", "yue"),
        ("こんにちは世界", "ja"),
        ("안녕", "ko"),
        ("Доброе утро, iPhone", "ru"),
        ("Доброго ранку, їжаку", "uk"),
        ("صباح الخير", "ar"),
        ("สวัสดีครับ", "th"),
        ("Καλημέρα", "el"),
        ("𠮷野家", "zh"),
    ],
)
def test_where_no_language_is_given_the_text_tells_it(text: str, code: str) -> None:
    assert align(Media(CLIP), Model(), text=text).language == code


@pytest.mark.parametrize("text", ["Hello", "Grüezi mitenand", "Xin chào", "1 2 3", "ⲁⲃⲅ"])
def test_letters_that_many_languages_have_tell_none(text: str) -> None:
    assert align(Media(CLIP), Model(), text=text).language == ""


@pytest.mark.parametrize(
    ("decoded", "fields", "param"),
    [
        (CLIP, {"text": " 。…"}, "text"),
        (CLIP, {"language": "klingon"}, "language"),
        (Decoded(b"", 1.0, True), {}, "file"),
        (InvalidRequest("The recording is longer than 300 seconds.", param="file"), {}, "file"),
    ],
)
def test_what_can_not_be_aligned_is_refused_without_a_model(
    decoded: Decoded | Exception, fields: dict[str, str], param: str
) -> None:
    model = Model()
    with pytest.raises(InvalidRequest) as caught:
        align(Media(decoded), model, **fields)
    assert caught.value.param == param and not model.requests


def test_an_unknown_model_is_refused_before_the_file_is_read() -> None:
    media = Media(CLIP)
    with pytest.raises(UnknownModel):
        align(media, Model(), model="nobody")
    assert not media.asked


def test_a_runner_that_dies_is_asked_once_more() -> None:
    assert align(Media(CLIP), Model(deaths=1)).words == WORDS
    with pytest.raises(RunnerDied):
        align(Media(CLIP), Model(deaths=2))


def test_words_in_a_language_that_the_aligner_lacks_are_refused_with_what_to_do() -> None:
    async def hear(request: PieceRequest) -> AsyncGenerator[Started | PieceDone]:
        yield PieceDone((Segment(0.0, 1.0, "สวัสดี"),), "th", "stop", Usage(1, 1), Timings(0, 0, 0))

    async def place(request: AlignmentRequest) -> AsyncGenerator[Started | AlignmentDone]:
        yield Started("m", 1)
        raise InvalidRequest("This model doesn't know Thai (th). It knows: en, zh.", param="language")

    asked = PieceRequest("qwen3-asr", b"", words=True)
    with pytest.raises(InvalidRequest, match="Thai.*Ask for segments") as caught:
        asyncio.run(last(WithWords(hear, place, "qwen3-aligner").hear(asked), PieceDone))
    assert caught.value.param == "timestamp_granularities"
