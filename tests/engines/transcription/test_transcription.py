import asyncio
import gc
from array import array
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from engines.media.client import DecodeProgress, Ending, PieceOptions, RecordingPiece, Selection
from engines.transcription.context import context
from engines.transcription.piece import PENALTY, Hear, asked_again, quietest
from engines.transcription.transcription import Transcriber, Transcription
from engines.types.audio import (
    EAR_RATE,
    PieceDone,
    PieceRequest,
    Segment,
    Transcript,
    TranscriptionEvent,
    TranscriptionRequest,
    TranscriptPart,
    TranscriptProgress,
    TranscriptText,
    Word,
)
from engines.types.chat import Delta
from engines.types.common import Started, Timings, Usage
from engines.types.errors import InvalidRequest, RunnerDied, ServiceError, UnknownModel, WrongCapability
from tests.promises import promise

LOOP = "像" * 119
Item = RecordingPiece | DecodeProgress | Ending
Answer = Callable[[PieceRequest], Awaitable[PieceDone]]


def sound(number: int, seconds: float = 0.01) -> bytes:
    """Samples that all say the same number, by which the fake model knows a piece, and a half of it."""
    return array("f", [float(number)]).tobytes() * round(EAR_RATE * seconds)


def number_of(request: PieceRequest) -> int:
    return round(memoryview(request.samples).cast("f")[0])


def piece(number: int, seconds: float = 0.01, total: float | None = None) -> RecordingPiece:
    start = number * 60.0
    return RecordingPiece(start, start + seconds, sound(number, seconds), start + seconds, total)


def said(text: str, language: str = "zh", reason: Any = "stop", seconds: float = 60.0) -> PieceDone:
    segments = (Segment(0.0, seconds, text, approximate=True),) if text else ()
    return PieceDone(segments, language, reason, Usage(10, len(text)), Timings(0, 0, 0))


def nobody() -> PieceDone:
    return msgspec.structs.replace(said("", ""), no_speech=True)


class Media:
    """Plays items; an exception among them is raised."""

    def __init__(self, items: Sequence[Item | Exception]) -> None:
        self.items = items
        self.given = 0
        self.closed = False

    async def pieces(self, path: str, options: PieceOptions, reader: Any = None) -> AsyncGenerator[Item, None]:
        self.selection = options.selection
        try:
            for item in self.items:
                await asyncio.sleep(0)
                if isinstance(item, Exception):
                    raise item
                self.given += 1
                yield item
        finally:
            self.closed = True


class Model:
    """Answers by a piece's number, at once or when its gate is open. Counts what is going on."""

    def __init__(self, answers: Mapping[int, str | Callable[[PieceRequest], PieceDone]] | None = None) -> None:
        self.answers = answers or {}
        self.gates: dict[int, asyncio.Event] = {}
        self.requests: list[PieceRequest] = []
        self.running = 0
        self.most_running = 0
        self.cancelled = 0
        self.changed = asyncio.Event()

    async def hear(self, request: PieceRequest) -> AsyncGenerator[Started | Delta | PieceDone]:
        self.requests.append(request)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.changed.set()
        number = number_of(request)
        try:
            yield Started("model-key", 7)
            yield Delta("…")
            if number in self.gates:
                await self.gates[number].wait()
            await asyncio.sleep(0)
            answer = self.answers.get(number, f"第{number}句。")
            yield said(answer) if isinstance(answer, str) else answer(request)
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
            self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()


def ear(hear: Hear) -> Callable[[TranscriptionRequest], Awaitable[Transcriber]]:
    """Finds the one model, which is asked by `hear`."""

    async def found(request: TranscriptionRequest) -> Transcriber:
        if request.model == "nobody":
            raise UnknownModel("There is no such model.", param="model")
        if request.model == "talker":
            raise WrongCapability("That model chats.", param="model")
        return Transcriber("main-name", PieceOptions(), hear)

    return found


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await work

    asyncio.run(limited())


def asking(**fields: Any) -> TranscriptionRequest:
    return TranscriptionRequest(**{"model": "short-name", "path": "/file", **fields})


async def events_of(
    media: Media, model: Model, request: TranscriptionRequest | None = None, **options: Any
) -> list[TranscriptionEvent]:
    transcription = Transcription(media, ear(model.hear), **options)
    async with aclosing(transcription.run(request or asking())) as events:
        return [event async for event in events]


def whole(events: Sequence[TranscriptionEvent]) -> Transcript:
    last = events[-1]
    assert isinstance(last, Transcript)
    parts = [event for event in events if isinstance(event, TranscriptPart)]
    assert "".join(event.text for event in events if isinstance(event, TranscriptText)) == last.text
    assert tuple(segment for part in parts for segment in part.segments) == last.segments
    return last


def pieces(*numbers: int, seconds: float = 0.01) -> list[Item]:
    return [*(piece(number, seconds) for number in numbers), Ending(len(numbers) * 60.0, False)]


def test_pieces_become_parts_with_progress_and_one_transcript() -> None:
    async def work() -> None:
        items: list[Item] = [
            piece(0, total=130.0),
            DecodeProgress(100.0, 130.0),
            piece(2, total=130.0),
            Ending(130.5, False),
        ]
        events = await events_of(Media(items), Model())
        first, second = (Segment(n * 60.0, n * 60 + 0.01, f"第{n}句。", approximate=True) for n in (0, 2))
        assert events == [
            Started("main-name", 7),
            TranscriptText("第0句。"),
            TranscriptPart((first,)),
            TranscriptProgress(0.01, 130.0),
            TranscriptProgress(100.0, 130.0),
            TranscriptText("第2句。"),
            TranscriptPart((second,)),
            TranscriptProgress(120.01, 130.0),
            TranscriptProgress(130.5, 130.5),
            Transcript("第0句。第2句。", (first, second), "zh", 130.5, Usage(20, 8)),
        ]

    run(work())


def test_a_piece_in_which_the_model_loops_is_cut_and_flagged_and_its_neighbours_are_intact() -> None:
    async def work() -> None:
        model = Model({2: f"好{LOOP}"})
        transcript = whole(await events_of(Media(pieces(0, 1, 2, 3, 4, seconds=6)), model))
        assert transcript.text == "第0句。第1句。好像好像第3句。第4句。"
        assert [segment.looped for segment in transcript.segments] == [False, False, True, True, False, False]
        (sentence,) = transcript.incomplete
        assert "from 2:00 to 2:03, from 2:03 to 2:06" in sentence and "repeated itself" in sentence
        asked = [request for request in model.requests if number_of(request) == 2]
        assert [request.repetition_penalty for request in asked] == [1.0, PENALTY, 1.0, PENALTY, 1.0, PENALTY]
        assert len(asked[2].samples) + len(asked[4].samples) == len(asked[0].samples)
        assert len(model.requests) == 4 + 6

    run(work())


@pytest.mark.parametrize("first", [said(LOOP), said("half a sent", reason="length")])
def test_a_second_try_that_is_fine_leaves_no_mark(first: PieceDone) -> None:
    async def work() -> None:
        model = Model({1: lambda request: said("好的。") if request.repetition_penalty > 1 else first})
        transcript = whole(await events_of(Media(pieces(0, 1, 2, seconds=6)), model))
        assert transcript.text == "第0句。好的。第2句。"
        assert not transcript.incomplete and not any(segment.looped for segment in transcript.segments)
        assert transcript.usage.completion_tokens == 8 + 3 + first.usage.completion_tokens

    run(work())


def test_halves_that_are_fine_leave_no_mark_and_have_their_own_times() -> None:
    async def work() -> None:
        whole_size = len(sound(1, 6))

        def answer(request: PieceRequest) -> PieceDone:
            return said(LOOP) if len(request.samples) == whole_size else said("一半。")

        transcript = whole(await events_of(Media(pieces(0, 1, seconds=6)), Model({1: answer})))
        assert transcript.text == "第0句。一半。一半。" and not transcript.incomplete
        assert transcript.segments[1].end == transcript.segments[2].start == pytest.approx(63.0, abs=0.1)
        assert transcript.segments[2].end == pytest.approx(66.0)

    run(work())


def test_what_stays_cut_by_the_limit_of_tokens_is_said() -> None:
    async def work() -> None:
        model = Model({1: lambda request: said("and then he", "en", "length")})
        transcript = whole(await events_of(Media(pieces(0, 1, seconds=2)), model))
        assert "and then he" in transcript.text
        (sentence,) = transcript.incomplete
        assert "from 1:00 to 1:02" in sentence and "limit of tokens" in sentence

    run(work())


def test_parts_come_in_order_though_pieces_end_out_of_order() -> None:
    async def work() -> None:
        model = Model()
        model.gates = {number: asyncio.Event() for number in range(4)}
        task = asyncio.create_task(events_of(Media(pieces(0, 1, 2, 3)), model))
        for number in (0, 3, 2, 1):
            await model.until(lambda number=number: any(number_of(asked) == number for asked in model.requests))  # type: ignore[misc]
            model.gates[number].set()
        assert whole(await task).text == "第0句。第1句。第2句。第3句。"

    run(work())


def test_no_more_pieces_are_in_flight_than_allowed_and_one_until_that_is_heard() -> None:
    async def work() -> None:
        model, media = Model(), Media(pieces(*range(30)))
        model.gates = {number: asyncio.Event() for number in range(5)}
        transcription = Transcription(media, ear(model.hear), in_flight=4)
        async with aclosing(transcription.run(asking())) as events:
            assert isinstance(await anext(events), Started)
            task = asyncio.ensure_future(anext(events))
            for _ in range(50):
                await asyncio.sleep(0)
            assert len(model.requests) == 1 and media.given == 2
            model.gates[0].set()
            await task
            further = asyncio.ensure_future(anext(events))
            await model.until(lambda: len(model.requests) == 5)
            for _ in range(50):
                await asyncio.sleep(0)
            assert model.running == 4 and media.given == 6
            for number in range(1, 5):
                model.gates[number].set()
            await further
            assert len([event async for event in events]) > 30
        assert model.most_running <= 4

        model = Model()
        async with aclosing(
            Transcription(Media(pieces(*range(9))), ear(model.hear)).run(asking(), in_flight=1)
        ) as events:
            assert len([event async for event in events]) > 9
        assert model.most_running == 1

    run(work())


@promise("mac:background:waits")
def test_all_pieces_but_a_recordings_first_wait_where_background_work_is_paused() -> None:
    async def body() -> None:
        goes_on, model = asyncio.Event(), Model()
        waiting = 0

        async def pause() -> None:
            nonlocal waiting
            waiting += 1
            model.changed.set()
            await goes_on.wait()

        events = Transcription(Media(pieces(0, 1, 2)), ear(model.hear), before_next=pause).run(asking())
        assert isinstance(await anext(events), Started)
        rest = asyncio.create_task(collected(events))
        await model.until(lambda: waiting == 2 and model.running == 0)
        assert [number_of(request) for request in model.requests] == [0]
        goes_on.set()
        assert isinstance((await rest)[-1], Transcript)
        assert sorted(number_of(request) for request in model.requests) == [0, 1, 2]

    async def collected(events: AsyncGenerator[TranscriptionEvent]) -> list[TranscriptionEvent]:
        return [event async for event in events]

    run(body())


def test_closing_the_generator_cancels_all_work_at_once() -> None:
    async def work() -> None:
        model, media = Model(), Media(pieces(*range(9)))
        model.gates = {number: asyncio.Event() for number in range(1, 9)}
        events = Transcription(media, ear(model.hear)).run(asking())
        while not isinstance(await anext(events), TranscriptProgress):
            pass
        waiting = asyncio.ensure_future(anext(events))
        await model.until(lambda: model.running == 4)
        closed = model.cancelled
        waiting.cancel()
        await asyncio.wait({waiting})
        await events.aclose()
        assert model.running == 0 and model.cancelled == closed + 4 and media.closed
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(work())


def test_closing_before_anything_was_heard_leaves_nothing_behind() -> None:
    async def work() -> None:
        model, media = Model(), Media(pieces(0, 1))
        events = Transcription(media, ear(model.hear)).run(asking())
        await anext(events)
        await events.aclose()
        assert model.running == 0 and media.closed and asyncio.all_tasks() == {asyncio.current_task()}

    run(work())


@pytest.mark.parametrize(
    ("items", "fields", "error", "param"),
    [
        (pieces(0), {"model": "nobody"}, UnknownModel, "model"),
        (pieces(0), {"model": "talker"}, WrongCapability, "model"),
        (pieces(0), {"language": "klingon"}, InvalidRequest, "language"),
        ([InvalidRequest("The file holds no sound.", param="file")], {}, InvalidRequest, "file"),
    ],
)
def test_what_is_wrong_raises_before_a_model_is_asked(
    items: list[Any], fields: dict[str, str], error: type[ServiceError], param: str
) -> None:
    async def work() -> None:
        model = Model()
        with pytest.raises(error) as caught:
            await anext(Transcription(Media(items), ear(model.hear)).run(asking(**fields)))
        assert caught.value.param == param and not model.requests

    run(work())


def test_what_the_model_refuses_raises_before_anything_is_sent() -> None:
    async def hear(request: PieceRequest) -> AsyncGenerator[Started | Delta | PieceDone]:
        raise InvalidRequest("This model tells no times of words.", param="timestamp_granularities")
        yield Started("", 0)

    async def work() -> None:
        with pytest.raises(InvalidRequest, match="times of words"):
            await anext(Transcription(Media(pieces(0, 1)), ear(hear)).run(asking(words=True)))
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(work())


def test_silence_is_an_empty_transcript_and_needs_no_model() -> None:
    async def work() -> None:
        model = Model()
        events = await events_of(Media([DecodeProgress(30.0, None), Ending(61.0, False)]), model)
        assert events == [
            Started("main-name", 0),
            TranscriptProgress(61.0, 61.0),
            Transcript("", (), "", 61.0, Usage(0, 0)),
        ]
        assert not model.requests

    run(work())


def test_a_file_that_ends_too_early_is_written_down_and_said_to_be_cut() -> None:
    async def work() -> None:
        transcript = whole(await events_of(Media([piece(0), Ending(42.0, True)]), Model()))
        assert transcript.text == "第0句。"
        assert "after 0:42" in transcript.incomplete[0]

    run(work())


def test_a_file_that_turns_out_bad_gives_what_was_before_and_then_the_error() -> None:
    async def work() -> None:
        media = Media([piece(0), piece(1), InvalidRequest("The recording is too long.", param="file")])
        events: list[TranscriptionEvent] = []
        with pytest.raises(InvalidRequest, match="too long"):
            async for event in Transcription(media, ear(Model().hear)).run(asking()):
                events.append(event)  # noqa: PERF401
        assert sum(isinstance(event, TranscriptPart) for event in events) == 2

    run(work())


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_runner_that_dies_is_asked_once_more_for_each_piece(deaths: int) -> None:
    async def work() -> None:
        left = {0: deaths, 2: deaths}

        def answer(request: PieceRequest) -> PieceDone:
            if left[number_of(request)]:
                left[number_of(request)] -= 1
                raise RunnerDied("It died.")
            return said("又来。")

        media, model = Media(pieces(0, 1, 2, 3)), Model({0: answer, 2: answer})
        if deaths == 1:
            assert whole(await events_of(media, model)).text == "又来。第1句。又来。第3句。"
        else:
            with pytest.raises(RunnerDied):
                await events_of(media, model)
        assert model.running == 0 and media.closed

    run(work())


def test_an_empty_answer_is_asked_again_in_the_language_of_the_rest() -> None:
    async def work() -> None:
        model = Model({2: lambda request: said("係呀。", "yue") if request.language == "zh" else said("", "")})
        transcript = whole(await events_of(Media(pieces(0, 1, 2)), model, in_flight=1))
        assert transcript.text == "第0句。第1句。係呀。"
        assert [request.language for request in model.requests] == ["", "", "", "zh"]

        model = Model({1: ""})
        transcript = whole(await events_of(Media(pieces(0, 1)), model, asking(language="廣東話"), in_flight=1))
        assert transcript.text == "第0句。" and transcript.language == "yue"
        assert [request.language for request in model.requests] == ["yue", "yue"]

    run(work())


def test_what_is_not_heard_in_the_language_that_was_given_is_heard_in_any() -> None:
    async def work() -> None:
        model = Model({0: lambda request: said("" if request.language else "Good morning.", "en")})
        transcript = whole(await events_of(Media(pieces(0)), model, asking(language="粵語"), in_flight=1))
        assert [request.language for request in model.requests] == ["yue", ""]
        assert transcript.text == "Good morning." and transcript.language == "en"

        model = Model({0: ""})  # noise
        transcript = whole(await events_of(Media(pieces(0, 1)), model, asking(language="yue"), in_flight=1))
        assert [request.language for request in model.requests] == ["yue", "", "yue"]
        assert transcript.text == "第1句。" and transcript.language == "yue"

    run(work())


@promise("audio:markup")
def test_where_the_model_says_that_nobody_speaks_it_is_not_asked_for_words() -> None:
    async def work() -> None:
        model = Model({1: lambda request: nobody() if not request.language else said("None", request.language)})
        transcript = whole(await events_of(Media(pieces(0, 1, 2)), model, in_flight=1))
        assert transcript.text == "第0句。第2句。"
        assert [request.language for request in model.requests] == ["", "", ""]

    run(work())


@promise("audio:markup")
@pytest.mark.parametrize(
    ("written", "in_any", "heard"),
    [
        ("None", nobody(), ""),
        ("None None\nNone", nobody(), ""),
        ("None", said("None.", "en"), "None"),  # somebody said it
        ("None", said("", ""), "None"),
        ("none", nobody(), "none"),
        ("None of them.", nobody(), "None of them."),
    ],
)
def test_none_alone_in_a_given_language_is_text_unless_the_model_then_says_that_nobody_speaks(
    written: str, in_any: PieceDone, heard: str
) -> None:
    async def work() -> None:
        model = Model({0: lambda request: said(written, "en") if request.language else in_any})
        transcript = whole(await events_of(Media(pieces(0)), model, asking(language="en"), in_flight=1))
        assert transcript.text == heard

    run(work())


ANSWERS = {"empty": said("", ""), "good": said("早晨。"), "cut": said("早晨", reason="length")}


@pytest.mark.parametrize(
    ("answer", "given", "known", "language", "penalty"),
    [
        ("good", "", "yue", None, 0),
        ("good", "en", "", None, 0),
        ("empty", "", "", None, 0),
        ("empty", "", "yue", "yue", 1.0),
        ("empty", "en", "", "", 1.0),
        ("empty", "en", "en", None, 0),
        ("cut", "en", "", "en", PENALTY),
        ("cut", "", "yue", "", PENALTY),
    ],
)
def test_an_answer_that_will_not_do_is_asked_for_otherwise(
    answer: str, given: str, known: str, language: str | None, penalty: float
) -> None:
    asked = asked_again(PieceRequest("m", b"", language=given), ANSWERS[answer], known)
    assert (asked and (asked.language, asked.repetition_penalty)) == (None if language is None else (language, penalty))


def test_everything_asked_for_reaches_the_model() -> None:
    async def work() -> None:
        model = Model()
        request = asking(
            language="zh-HK",
            prompt=" About  MLX. ",
            hotwords=("Qwen", "粵語"),
            temperature=0.5,
            translate=True,
            words=True,
            trace="t1",
        )
        await events_of(Media(pieces(0)), model, request)
        (asked,) = model.requests
        assert msgspec.structs.replace(asked, samples=b"") == PieceRequest(
            model="short-name",
            samples=b"",
            language="yue",
            context="About  MLX.\nQwen, 粵語",
            temperature=0.5,
            translate=True,
            words=True,
            trace="t1",
        )

    run(work())


def test_a_prompt_of_ten_thousand_characters_is_cut_and_that_is_said() -> None:
    async def work() -> None:
        model = Model()
        request = asking(prompt="word " * 2_000, hotwords=("Qwen",))
        transcript = whole(await events_of(Media(pieces(0)), model, request))
        assert len(model.requests[0].context) <= 2_000 and model.requests[0].context.endswith("word\nQwen")
        (sentence,) = transcript.incomplete
        assert "of the prompt's 9999 characters" in sentence

    run(work())


def test_hotwords_stay_whole_and_take_room_before_the_prompt() -> None:
    assert context("", ()) == ("", ())
    kept, sentences = context("字" * 100, ["一二三", " ", "四五六七"], most=12)
    assert kept == "字\n一二三, 四五六七" and "first 1 of the prompt's 100" in sentences[0]
    kept, sentences = context("", ["x" * 20, "y"], most=12)
    assert kept == "" and "first 0 of 2 hotwords" in sentences[0]


def test_text_of_one_script_in_parts_is_the_whole_in_one_script() -> None:
    async def work() -> None:
        answers = {0: "后面的皇后，头发发现。", 1: "佢哋喺台湾嘅屋企。", 2: "https://a.example 這裡的面条。"}
        media = Media(pieces(0, 1, 2))
        transcript = whole(await events_of(media, Model(answers), asking(script="traditional")))
        assert transcript.text == "後面的皇后，頭髮發現。佢哋喺台灣嘅屋企。https://a.example 這裡的麵條。"
        simplified = whole(await events_of(media, Model(answers), script="simplified"))
        assert simplified.text == "后面的皇后，头发发现。佢哋喺台湾嘅屋企。https://a.example 这里的面条。"
        as_is = whole(await events_of(media, Model(answers), asking(script="as-is"), script="simplified"))
        assert as_is.text == "".join(answers.values())
        assert [(s.start, s.end) for s in as_is.segments] == [(s.start, s.end) for s in transcript.segments]

    run(work())


def test_times_that_the_model_tells_are_kept_and_moved_to_where_the_piece_is() -> None:
    async def work() -> None:
        told = (
            Segment(0.0, 1.0, " Hello", (Word(" Hello", 0.1, 0.9, 0.8),), avg_logprob=-0.2),
            Segment(1.5, 2.0, " there.", avg_logprob=-0.3),
        )
        model = Model({600: lambda request: PieceDone(told, "en", "stop", Usage(1, 1), Timings(0, 0, 0))})
        transcript = whole(await events_of(Media([piece(600, 2.0), Ending(36_002.0, False)]), model))
        first, second = transcript.segments
        assert (first.start, first.end, first.text, first.approximate) == (36_000.0, 36_001.0, "Hello", False)
        assert first.words == (Word(" Hello", 36_000.1, 36_000.9, 0.8),)
        assert (second.start, second.end, second.avg_logprob) == (36_001.5, 36_002.0, -0.3)
        assert transcript.text == "Hello there." and transcript.language == "en"

    run(work())


@promise("audio:words:checked")
def test_words_that_could_not_be_aligned_are_reckoned_and_told() -> None:
    async def work() -> None:
        wrong = msgspec.structs.replace(said("Good morning. All is well.", "en"), misaligned=True)
        transcript = whole(await events_of(Media(pieces(0, 1)), Model({1: lambda request: wrong}), asking(words=True)))
        (sentence,) = transcript.incomplete
        assert "approximate from 1:00 to" in sentence
        first, *rest = transcript.segments
        assert not first.words and [one.text for one in rest] == ["Good morning.", "All is well."]
        assert all(one.approximate for one in rest)
        assert [word.text for one in rest for word in one.words] == ["Good", "morning", "All", "is", "well"]
        times = [time for one in rest for word in one.words for time in (word.start, word.end)]
        assert times == sorted(times) and times[0] == 60.0

    run(work())


def test_the_language_is_that_of_most_of_the_recording() -> None:
    async def work() -> None:
        answers = {n: (lambda request, n=n: said("ok", "en" if n == 1 else "yue")) for n in range(3)}
        assert whole(await events_of(Media(pieces(0, 1, 2)), Model(answers))).language == "yue"

    run(work())


def test_ten_thousand_pieces_leave_no_sound_behind() -> None:
    alive = most = 0

    class Samples(bytes):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    async def pieces(path: str, options: PieceOptions, reader: Any = None) -> AsyncGenerator[Item, None]:
        nonlocal alive, most
        for number in range(10_000):
            alive += 1
            most = max(most, alive)
            yield RecordingPiece(number * 3.6, number * 3.6 + 0.001, Samples(sound(1, 0.001)), number * 3.6, 36_000.0)
        yield Ending(36_000.0, False)

    async def hear(request: PieceRequest) -> AsyncGenerator[Started | Delta | PieceDone]:
        yield Started("m", 1)
        yield said("好。")

    async def work() -> None:
        media = Media([])
        media.pieces = pieces  # type: ignore[method-assign]
        async with aclosing(Transcription(media, ear(hear)).run(asking())) as events:
            async for event in events:
                last = event
        assert isinstance(last, Transcript)
        assert len(last.segments) == 10_000
        assert last.segments[-1].start == 9_999 * 3.6

    run(work())
    gc.collect()
    assert most < 20 and alive == 0


def test_a_piece_is_halved_where_it_is_quietest() -> None:
    loud, quiet = array("f", [0.5, -0.5]) * EAR_RATE, array("f", [0.01]) * (EAR_RATE // 5)
    samples = (loud + quiet + loud).tobytes()
    at = quietest(samples) / 4 / EAR_RATE
    assert 2.0 < at < 2.2
    assert quietest(sound(1, 4)) % 4 == 0


def in_channel(number: int, channel: int) -> RecordingPiece:
    return msgspec.structs.replace(piece(number), channel=channel)


def test_channels_are_named_in_the_text_and_by_their_segments() -> None:
    async def work() -> None:
        items: list[Item] = [
            in_channel(0, 1),
            in_channel(1, 1),
            in_channel(2, 2),
            in_channel(3, 1),
            Ending(240.0, False),
        ]
        media = Media(items)
        request = asking(channels="separate", track=3, streamed=True)
        transcript = whole(await events_of(media, Model({2: "Hello", 3: ""}), request))
        assert media.selection == Selection(3, "separate")
        assert transcript.text == "Channel 1: 第0句。第1句。\nChannel 2: Hello"
        assert [segment.channel for segment in transcript.segments] == [1, 1, 2]

    run(work())


def test_missing_sound_and_the_track_are_told_of_the_whole() -> None:
    async def work() -> None:
        ending = Ending(60.0, False, ((12.4, 13.1), (20.0, 21.0)), 2, 3)
        transcript = whole(await events_of(Media([piece(0), ending]), Model()))
        (sentence,) = transcript.incomplete
        assert "missing from 12.4 to 13.1 s, from 20.0 to 21.0 s" in sentence
        assert (transcript.track, transcript.tracks) == (2, 3)

    run(work())
