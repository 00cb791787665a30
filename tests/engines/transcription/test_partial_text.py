"""The first text of a recording, told while it is being written: nothing of it is taken back, whatever follows."""

import asyncio
from array import array
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.media.client import DecodeProgress, Ending, PieceOptions, RecordingPiece
from engines.text.repetition import collapsed
from engines.transcription.piece import PENALTY
from engines.transcription.transcription import Transcriber, Transcription
from engines.types.audio import (
    EAR_RATE,
    PieceDone,
    PieceRequest,
    PieceText,
    Segment,
    Transcript,
    TranscriptionEvent,
    TranscriptionRequest,
    TranscriptPart,
    TranscriptText,
)
from engines.types.chat import Delta
from engines.types.common import Started, Timings, Usage
from engines.types.errors import InternalError, RunnerDied
from tests.promises import promise

SECONDS = 6.0  # of a piece: enough to be halved
DIED = RunnerDied("The runner died.", retry_after=1.0)


class Answer(msgspec.Struct, frozen=True):
    """What a model says of a piece, behind the beginning that it is given, in which parts, and how it ends."""

    parts: Sequence[str]
    end: Literal["stop", "length", "dies"] = "stop"
    language: str = "en"


class Media:
    """Recordings of so many pieces."""

    def __init__(self, count: int) -> None:
        self.count = count

    async def pieces(
        self, path: str, options: PieceOptions, reader: Any = None
    ) -> AsyncGenerator[RecordingPiece | DecodeProgress | Ending, None]:
        for number in range(self.count):
            samples = array("f", [float(number)]).tobytes() * round(EAR_RATE * SECONDS)
            yield RecordingPiece(number * 60.0, number * 60 + SECONDS, samples, number * 60 + SECONDS, None)
        yield Ending(self.count * 60.0, False)


class Model:
    """Gives its answers in turn, the last one again and again; `gate` is what it waits for before an answer's end."""

    def __init__(self, *answers: Answer, gate: asyncio.Event | None = None) -> None:
        self.answers = answers
        self.gate = gate
        self.requests: list[PieceRequest] = []
        self.running = 0

    async def hear(self, request: PieceRequest) -> AsyncGenerator[Started | Delta | PieceDone]:
        answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
        self.requests.append(request)
        self.running += 1
        try:
            yield Started("model", 7)
            for part in answer.parts:
                yield self.said(part, answer.language)
                await asyncio.sleep(0)
            if self.gate is not None:
                await self.gate.wait()
            if answer.end == "dies":
                raise DIED
            yield self.done(request.beginning + "".join(answer.parts), answer)
        finally:
            self.running -= 1

    def said(self, text: str, language: str) -> Delta:
        return PieceText(text, language=language)

    def done(self, text: str, answer: Answer) -> PieceDone:
        segments = (Segment(0.0, SECONDS, text, approximate=True, avg_logprob=-0.5),) if text.strip() else ()
        reason: Any = answer.end
        return PieceDone(segments, answer.language, reason, Usage(10, len(answer.parts)), Timings(0, 0, 0))


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await work

    asyncio.run(limited())


def transcription(model: Model, pieces: int = 1, **fields: Any) -> AsyncGenerator[TranscriptionEvent]:
    request = TranscriptionRequest(**{"model": "m", "path": "/file", "streamed": True, **fields})

    async def ear(request: TranscriptionRequest) -> Transcriber:
        return Transcriber("model", PieceOptions(), model.hear)

    return Transcription(Media(pieces), ear).run(request)


async def told(model: Model, pieces: int = 1, **fields: Any) -> tuple[list[str], Transcript]:
    """The texts, which make the transcript's, and that."""
    async with aclosing(transcription(model, pieces, **fields)) as events:
        seen = [event async for event in events]
    texts, whole = [event.text for event in seen if isinstance(event, TranscriptText)], seen[-1]
    assert isinstance(whole, Transcript) and "".join(texts) == whole.text
    segments = [segment for event in seen if isinstance(event, TranscriptPart) for segment in event.segments]
    assert tuple(segments) == whole.segments
    assert "".join(whole.text.split()) == "".join("".join(segment.text.split()) for segment in segments)
    return texts, whole


def words(text: str) -> list[str]:
    """As a model's tokens have them."""
    return [f" {word}" for word in text.split(" ")]


@promise("audio:early")
def test_text_comes_while_the_model_still_writes_and_nothing_of_it_comes_again() -> None:
    async def work() -> None:
        model = Model(Answer([" So", " he", " said", ": ", "好", "的", "。"]), gate=asyncio.Event())
        async with aclosing(transcription(model)) as events:
            seen = [await anext(events) for _ in range(6)]
            assert seen == [Started("model", 7), *map(TranscriptText, ["So", " he", " said", ": 好", "的"])]
            assert model.gate is not None
            model.gate.set()
            part = TranscriptPart((Segment(0.0, 6.0, "So he said: 好的。", approximate=True, avg_logprob=-0.5),))
            assert [await anext(events), await anext(events)] == [TranscriptText("。"), part]
            *_, last = [event async for event in events]
        assert isinstance(last, Transcript) and last.text == "So he said: 好的。" and not last.incomplete
        assert len(model.requests) == 1

    run(work())


@promise("audio:early")
@pytest.mark.parametrize(("given", "heard"), [("", "yue"), ("zh", "zh")])
def test_a_loop_is_heard_again_from_what_was_told_in_the_language_that_was_heard(given: str, heard: str) -> None:
    async def work() -> None:
        loop = Answer([" 我哋", "开始", *["像"] * 119], language=heard)
        model = Model(loop, Answer(["一样", "好。"], language=heard))
        texts, whole = await told(model, language=given)
        assert texts == ["我哋", "开始", "像", "一样", "好。"]
        assert whole.text == "我哋开始像一样好。" and not whole.incomplete and whole.language == heard
        first, second = model.requests
        assert (first.beginning, first.language, first.repetition_penalty) == ("", given, 1.0)
        assert (second.beginning, second.language, second.repetition_penalty) == (" 我哋开始像", heard, PENALTY)
        assert not any(segment.looped for segment in whole.segments)
        assert whole.usage == Usage(20, len(loop.parts) + 2)

    run(work())


@promise("audio:early")
def test_what_loops_again_is_cut_behind_what_was_told_and_marked() -> None:
    async def work() -> None:
        model = Model(Answer(words("so I said" + " no" * 60)), Answer([" no", " way", *words("la" + " la" * 60)]))
        _, whole = await told(model)
        assert whole.text == "so I said no no way la"
        assert len(model.requests) == 2 and all(segment.looped for segment in whole.segments)
        assert "repeated itself" in whole.incomplete[0]

        again = Answer([" b"] * 40 + [" a", " b"] * 9)  # without the b's, one loop from the text's beginning on
        model = Model(Answer([" a", " b"] * 6 + [" b"] * 40), again)
        _, whole = await told(model)
        assert whole.text == " ".join(["a b"] * 6) and whole.incomplete

    run(work())


def test_what_stays_cut_is_marked_and_has_no_halves() -> None:
    async def work() -> None:
        model = Model(Answer(words("and then he"), "length"), Answer(words("he was"), "length"))
        _, whole = await told(model)
        assert whole.text == "and then he was"
        assert [request.beginning for request in model.requests] == ["", " and then"]
        assert "limit of tokens" in whole.incomplete[0]

    run(work())


@promise("audio:early")
def test_a_runner_that_dies_is_asked_for_the_rest_and_a_second_death_is_told() -> None:
    async def work() -> None:
        model = Model(Answer(words("one two three four"), "dies"), Answer(words("four five.")))
        texts, whole = await told(model)
        assert texts == ["one", " two", " three", " four", " five."] and not whole.incomplete
        again = model.requests[1]
        assert (again.beginning, again.language, again.repetition_penalty) == (" one two three", "en", 1.0)

        model = Model(Answer(words("one two three"), "dies"), Answer(["", " three", " four"], "dies"))
        seen: list[str] = []
        with pytest.raises(RunnerDied):
            async with aclosing(transcription(model)) as events:
                async for event in events:
                    seen += [event.text] if isinstance(event, TranscriptText) else []
        assert seen == ["one", " two", " three"] and len(model.requests) == 2 and model.running == 0

    run(work())


def test_where_nothing_was_told_a_piece_is_heard_again_in_halves_as_any() -> None:
    async def work() -> None:
        model = Model(Answer(["8" * 100]), Answer(["8" * 100]), Answer([" one half"]), Answer([" the other"]))
        texts, whole = await told(model)
        assert texts == ["one half the other"] and not whole.incomplete
        assert [request.beginning for request in model.requests] == [""] * 4

        model = Model(Answer([], language=""), Answer(words("早晨 呀"), language="yue"))
        texts, whole = await told(model, language="en")
        assert texts == ["早晨 呀"] and [request.language for request in model.requests] == ["en", ""]

    run(work())


def test_an_answer_may_end_with_what_was_told() -> None:
    async def work() -> None:
        model = Model(Answer([*words("yes no"), "8" * 100], "length"), Answer([]))
        texts, whole = await told(model)
        assert texts == ["yes"] and whole.text == "yes" and not whole.incomplete

    run(work())


@pytest.mark.parametrize(
    "fields", [{"streamed": False}, {"script": "traditional"}, {"words": True}], ids=["whole", "script", "words"]
)
def test_text_comes_with_its_piece_unless_it_is_asked_for_and_nothing_can_change_it(fields: dict[str, Any]) -> None:
    async def work() -> None:
        texts, _ = await told(Model(Answer(words("one two three"))), **fields)
        assert texts == ["one two three"]
        model = Model(Answer(words("no" + " no" * 60)), Answer(words("oh no" + " no" * 60)), Answer(words("no way")))
        texts, whole = await told(model, **fields)
        assert texts == ["no way no way"] and not whole.incomplete and len(model.requests) == 4

    run(work())


def test_a_model_that_tells_times_is_told_when_its_piece_is_done() -> None:
    class Timed(Model):
        def said(self, text: str, language: str) -> Delta:
            return Delta(text)

    async def work() -> None:
        texts, _ = await told(Timed(Answer(words("one two three"))))
        assert texts == ["one two three"]

    run(work())


def test_pieces_behind_the_first_are_told_whole_and_silence_is_none() -> None:
    async def work() -> None:
        answers = [Answer([]), Answer(words("one two three.")), *[Answer(words("four five six."))] * 2]
        texts, whole = await told(Model(*answers), pieces=4)
        assert texts == ["one", " two", " three.", " four five six.", " four five six."]
        assert whole.text == "one two three. four five six. four five six."

    run(work())


def test_a_model_that_takes_back_what_was_told_fails_the_request() -> None:
    class Liar(Model):
        def done(self, text: str, answer: Answer) -> PieceDone:
            return super().done(answer.language, answer)

    async def work() -> None:
        for instead in ("Something else.", ""):
            with pytest.raises(InternalError, match="took back"):
                await told(Liar(Answer(words("one two three"), language=instead)))

    run(work())


def test_leaving_while_text_comes_leaves_nothing_behind() -> None:
    async def work() -> None:
        model = Model(Answer(words("one two three")), gate=asyncio.Event())
        events = transcription(model)
        while not isinstance(await anext(events), TranscriptText):
            pass
        assert model.running == 1
        await events.aclose()
        assert model.running == 0 and asyncio.all_tasks() == {asyncio.current_task()}

    run(work())


PARTS = st.sampled_from([" a", " b", " no", " no" * 30, "好", "像" * 30, "谢谢。", " ", "…", "8" * 40, " it'", "s"])
ANSWERS = st.builds(
    Answer,
    st.lists(PARTS, max_size=12),
    st.sampled_from(["stop", "stop", "length", "dies"]),
    st.sampled_from(["", "zh"]),
)


@promise("audio:early")
@given(st.lists(ANSWERS, min_size=1, max_size=6), st.integers(1, 3), st.sampled_from(["", "en"]))
def test_whatever_models_say_the_texts_are_the_transcript_and_each_request_begins_with_them(
    answers: list[Answer], pieces: int, language: str
) -> None:
    async def work() -> None:
        model = Model(*answers, Answer(words("and that is all.")))
        seen: list[str] = []
        try:
            async with aclosing(transcription(model, pieces, language=language)) as events:
                async for event in events:
                    seen += [event.text] if isinstance(event, TranscriptText) else []
            assert isinstance(event, Transcript) and "".join(seen) == event.text and all(seen)
            assert not event.text or not event.text[-1].isspace()
            assert event.incomplete or not any(segment.looped for segment in event.segments)
        except RunnerDied:
            assert any(answer.end == "dies" for answer in answers)
        for request in model.requests:
            assert "".join(seen).startswith(request.beginning.lstrip())
            assert collapsed(request.beginning) == request.beginning

    run(work())
