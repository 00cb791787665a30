import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.media.client import WHOLE, Decoded, Selection
from engines.transcription.alignment import MOST_SECONDS, Alignment, Place
from engines.transcription.word_times import is_plausible, reckoned
from engines.transcription.word_timestamps import WithWords
from engines.types.audio import (
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
from engines.types.common import Started, Timings, Usage
from engines.types.errors import InvalidRequest, RunnerDied, UnknownModel
from engines.types.streams import last
from tests.promises import promise

WORDS = (Word("你", 0.1, 0.3), Word("好", 0.3, 0.5))


class Media:
    def __init__(self, decoded: Decoded | Exception) -> None:
        self.decoded = decoded
        self.asked: list[tuple[str, int, float]] = []

    async def decode(self, path: str, rate: int, longest_seconds: float, selection: Selection = WHOLE) -> Decoded:
        self.asked.append((path, rate, longest_seconds))
        self.selection = selection
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


def named(place: Place) -> Callable[[str], Awaitable[tuple[str, Place]]]:
    """Finds the one model, which is asked by `place`."""

    async def found(model: str) -> tuple[str, Place]:
        if model == "nobody":
            raise UnknownModel("There is no such model.", param="model")
        return "main-name", place

    return found


CLIP = Decoded(b"1234", 2.5, False)


def align(media: Media, listener: Model, **fields: Any) -> Aligned:
    request = AlignRequest(**{"model": "m", "path": "/file", "text": "你好", **fields})
    return asyncio.run(Alignment(media, named(listener.place)).run(request))


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
        (Decoded(b"", 1.0, False, ((0.2, 0.4),)), {}, "file"),
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


def test_the_track_and_the_channel_that_are_asked_for_are_read() -> None:
    media = Media(Decoded(CLIP.samples, 1.0, False, (), 2, 3))
    found = align(media, Model(), track=2, channel=1)
    assert media.selection == Selection(2, 1) and (found.track, found.tracks) == (2, 3)
    align(media, Model())
    assert media.selection == WHOLE


def test_an_unknown_model_is_refused_before_the_file_is_read() -> None:
    media = Media(CLIP)
    with pytest.raises(UnknownModel):
        align(media, Model(), model="nobody")
    assert not media.asked


def test_a_runner_that_dies_is_asked_once_more() -> None:
    assert align(Media(CLIP), Model(deaths=1)).words == WORDS
    with pytest.raises(RunnerDied):
        align(Media(CLIP), Model(deaths=2))


TEXT = "One, two and three. Four or five, or 六七八."
NAN = float("nan")
# What an aligner that fails says of that text, in two seconds.
FAILURES: dict[str, Sequence[tuple[float, float]]] = {
    "all at one time": [(0.0, 0.0)] * 11,
    "all at the end": [(2.0, 2.0)] * 11,
    "all within a moment": [(0.5 + n / 200, 0.5 + (n + 1) / 200) for n in range(11)],
    "going back": [(1.8 - n / 10, 1.9 - n / 10) for n in range(11)],
    "one that goes back": [*((n / 10, (n + 1) / 10) for n in range(10)), (0.2, 0.3)],
    "ends before beginnings": [(n / 10 + 0.1, n / 10) for n in range(11)],
    "behind the sound": [(n / 2, (n + 1) / 2) for n in range(11)],
    "before the sound": [(n / 10 - 1, n / 10 - 0.9) for n in range(11)],
    "no numbers": [(NAN, NAN)] * 11,
    "one that is no number": [*((n / 10, (n + 1) / 10) for n in range(10)), (1.0, NAN)],
    "endless": [*((n / 10, (n + 1) / 10) for n in range(10)), (1.0, float("inf"))],
    "no words": [],
}
UNITS = ("One", "two", "and", "three", "Four", "or", "five", "or", "六", "七", "八")


def timed(times: Sequence[tuple[float, float]]) -> tuple[Word, ...]:
    return tuple(Word(text, start, end) for text, (start, end) in zip(UNITS, times, strict=False))


def heard_with_words(words: tuple[Word, ...], segments: Sequence[Segment]) -> PieceDone:
    async def hear(request: PieceRequest) -> AsyncGenerator[Started | PieceDone]:
        yield PieceDone(tuple(segments), "en", "stop", Usage(1, 1), Timings(0, 0, 0))

    async def place(request: AlignmentRequest) -> AsyncGenerator[Started | AlignmentDone]:
        yield Started("m", 1)
        yield AlignmentDone(words, Usage(1, 1), Timings(0, 0, 0))

    return asyncio.run(
        last(WithWords(hear, place, "qwen3-aligner").hear(PieceRequest("m", b"", words=True)), PieceDone)
    )


@promise("audio:words:checked")
@pytest.mark.parametrize("times", FAILURES.values(), ids=FAILURES)
def test_times_that_can_not_be_true_leave_those_that_were_there(times: Sequence[tuple[float, float]]) -> None:
    whole = Segment(0.0, 2.0, TEXT, approximate=True, avg_logprob=-0.5, compression_ratio=1.1)
    done = heard_with_words(timed(times), [whole])
    assert done.misaligned and done.segments == (whole,)


@promise("audio:words:checked")
def test_times_that_can_be_true_are_taken_with_the_figures_of_the_text() -> None:
    for step in (0.08, 0.12, 0.18):
        words = timed([(round(n * step, 2), round((n + 1) * step, 2)) for n in range(11)])
        done = heard_with_words(words, [Segment(0.0, 2.0, TEXT, approximate=True, avg_logprob=-0.5)])
        assert not done.misaligned and [word for one in done.segments for word in one.words] == list(words)
        assert [one.text for one in done.segments] == ["One, two and three.", "Four or five, or 六七八."]
        assert {(one.avg_logprob, one.approximate) for one in done.segments} == {(-0.5, False)}


@promise("audio:words:checked")
@pytest.mark.parametrize("times", FAILURES.values(), ids=FAILURES)
def test_of_a_given_text_too_times_that_can_not_be_true_are_reckoned(times: Sequence[tuple[float, float]]) -> None:
    async def place(request: AlignmentRequest) -> AsyncGenerator[Started | AlignmentDone]:
        yield AlignmentDone(timed(times), Usage(1, 1), Timings(0, 0, 0))

    alignment = Alignment(Media(Decoded(b"1234", 2.0, False)), named(place))
    found = asyncio.run(alignment.run(AlignRequest("m", "/file", TEXT)))
    assert found.approximate and tuple(word.text for word in found.words) == UNITS
    assert is_plausible(found.words, 2.0)


@given(st.text(alphabet="ab 好。, 7'-\n", max_size=60), st.floats(0, 1e4), st.floats(0, 60))
def test_reckoned_words_fill_their_segment_in_order(text: str, start: float, seconds: float) -> None:
    words = reckoned(Segment(start, start + seconds, text))
    times = [time for word in words for time in (word.start, word.end)]
    assert times == sorted(times) and all(start <= time <= start + seconds for time in times)
    letters = [character for character in text if character.isalnum()]
    assert [character for word in words for character in word.text if character.isalnum()] == letters


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
