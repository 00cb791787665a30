"""Speaking against an engine that does as it is told: ends early, late, never, fails, or speaks at another level."""

import asyncio
import math
from array import array
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engines.synthesis import crossfade, synthesis
from engines.synthesis.duration_check import bounds, usual_seconds
from engines.synthesis.sentences import split
from engines.synthesis.synthesis import Synthesis
from engines.synthesis.voice_store import VoiceStore
from engines.text.speakable import speakable
from engines.types.audio import (
    VOICE_RATE,
    Sound,
    SoundFormat,
    SpeechData,
    SpeechDone,
    SpeechEvent,
    SpeechProgress,
    SpeechRequest,
    Transcript,
    UtteranceDone,
    UtteranceRequest,
)
from engines.types.common import Started, Timings, Usage
from engines.types.errors import InvalidRequest, RunnerDied
from engines.types.voice_reference import spoken_text
from tests.promises import promise

CHUNK = 8 * 1920
PERIOD = 64
Script = Callable[[UtteranceRequest, int], float]  # the request, and which try it is → the share of the usual length


def usual(request: UtteranceRequest, attempt: int) -> float:
    return 1.0


class Engine:
    """Speaks a tone, of the scripted share of the usual length; up to `max_seconds`, if that is less."""

    def __init__(self, script: Script = usual, size: Callable[[str], float] = lambda text: 0.2) -> None:
        self.script = script
        self.size = size
        self.requests: list[UtteranceRequest] = []
        self.running = 0
        self.most = 0
        self.chunks = 0
        self.busy = asyncio.Event()
        self.finished: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.gate = asyncio.Event()
        self.gate.set()

    async def utter(self, request: UtteranceRequest) -> AsyncGenerator[Started | Sound | UtteranceDone]:
        attempt = sum(one.text == request.text for one in self.requests)
        self.requests.append(request)
        self.running += 1
        self.most = max(self.most, self.running)
        if self.running == synthesis.AHEAD_WHOLE:
            self.busy.set()
        try:
            yield Started("tts", 10)
            seconds = self.script(request, attempt) * usual_seconds(request.text)
            whole = min(seconds, request.max_seconds)
            tone = self._tone(request.text, int(whole * VOICE_RATE))
            for start in range(0, len(tone), CHUNK):
                await self.gate.wait()
                await asyncio.sleep(0)
                self.chunks += 1
                yield Sound(tone[start : start + CHUNK].tobytes())
            self.finished[request.text].set()
            reason = "length" if seconds > request.max_seconds else "stop"
            yield UtteranceDone(whole, reason, Usage(10, len(tone) // 1920), Timings(0, 0, 0))  # type: ignore[arg-type]
        finally:
            self.running -= 1

    def _tone(self, text: str, samples: int) -> crossfade.Sound:
        size = self.size(text)
        wave = array("f", [size * math.sin(2 * math.pi * place / PERIOD) for place in range(PERIOD)])
        return (wave * (samples // PERIOD + 1))[:samples]


class File:
    def __init__(self, whole: bool) -> None:
        self.fed: list[bytes] = []
        self._whole = whole

    async def feed(self, samples: bytes) -> bytes:
        await asyncio.sleep(0)
        self.fed.append(samples)
        return b"" if self._whole else samples

    async def finish(self) -> bytes:
        return b"".join(self.fed) if self._whole else b"end!"


class Clip:
    def __init__(self, samples: bytes, cut: bool = False, gaps: tuple[tuple[float, float], ...] = ()) -> None:
        self.samples = samples
        self.gaps = gaps
        self.seconds = len(samples) / 4 / VOICE_RATE
        self.cut = cut


class Studio:
    """A media process that writes plain samples."""

    def __init__(self, clip_seconds: float = 4.0) -> None:
        self.opened: list[tuple[Any, ...]] = []
        self.decoded: list[str] = []
        self._clip = Clip(array("f", [0.1 * math.sin(n / 9) for n in range(int(clip_seconds * VOICE_RATE))]).tobytes())

    async def decode(self, path: str, rate: int, longest_seconds: float) -> Clip:
        self.decoded.append(path)
        if path.endswith("broken"):
            raise InvalidRequest("That isn't a recording.", param="file")
        return Clip(self._clip.samples, path.endswith("cut"), ((1.0, 1.5),) if path.endswith("gap") else ())

    @asynccontextmanager
    async def encoder(
        self, format: SoundFormat, rate_in: int, rate_out: int | None = None, speed: float = 1.0, whole: bool = True
    ) -> AsyncIterator[File]:
        self.opened.append((format, rate_in, rate_out, speed, whole))
        yield File(whole)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


async def spoken(engine: Engine, text: str, studio: Studio | None = None, **fields: Any) -> list[SpeechEvent]:
    request = SpeechRequest("tts", text, **fields)
    return [event async for event in Synthesis(studio or Studio()).speak(request, engine.utter)]


def samples(events: Sequence[SpeechEvent]) -> crossfade.Sound:
    data = b"".join(event.data for event in events if isinstance(event, SpeechData))
    return array("f", data.removesuffix(b"end!"))


def done(events: Sequence[SpeechEvent]) -> SpeechDone:
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], SpeechDone)
    assert sum(isinstance(event, Started | SpeechDone) for event in events) == 2
    return events[-1]


PARTS = ("Good morning to everyone who is here today.", "We are glad that you came.", "Now let us begin with our work.")
LONG = "\n".join(PARTS)


@pytest.mark.parametrize("streamed", [False, True])
def test_all_pieces_are_spoken_in_order_and_joined_with_pauses(streamed: bool) -> None:
    async def scenario() -> None:
        engine = Engine()
        events = await spoken(engine, LONG, streamed=streamed, voice="vivian", language="en", instructions="Gladly.")
        end = done(events)
        assert sorted(one.text for one in engine.requests) == sorted(PARTS)
        assert {(one.voice, one.language, one.instructions) for one in engine.requests} == {("vivian", "en", "Gladly.")}
        expected = sum(map(usual_seconds, PARTS)) + 2 * 0.45
        assert end.seconds == pytest.approx(expected, abs=0.001) and end.incomplete == ()
        assert len(samples(events)) == round(end.seconds * VOICE_RATE)
        assert end.usage.prompt_tokens == 30
        data = [event for event in events if isinstance(event, SpeechData)]
        assert len(data) > 5 if streamed else len(data) == 1
        assert [event for event in events if isinstance(event, SpeechProgress)] == [
            SpeechProgress(part, len(PARTS)) for part in (1, 2, 3)
        ]

    run(scenario())


def test_format_rate_and_speed_reach_the_media_process() -> None:
    async def scenario() -> None:
        studio = Studio()
        events = await spoken(Engine(), PARTS[0], studio, format="mp3", sample_rate=16_000, speed=2.0, streamed=True)
        assert studio.opened == [("mp3", VOICE_RATE, 16_000, 2.0, False)]
        assert done(events).seconds == pytest.approx(usual_seconds(PARTS[0]) / 2, abs=0.001)

    run(scenario())


@pytest.mark.parametrize("speed", [0.0, 0.2, 4.1, -1.0, math.nan, math.inf])
def test_a_speed_out_of_bounds_is_refused(speed: float) -> None:
    async def scenario() -> None:
        engine = Engine()
        with pytest.raises(InvalidRequest) as caught:
            await spoken(engine, PARTS[0], speed=speed)
        assert caught.value.param == "speed" and not engine.requests

    run(scenario())


ODD = ["😀", " ", "。。。", "\x00", "\u200b", "<speak></speak>", ""]


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_text_without_anything_to_speak_is_refused_before_any_work(text: str) -> None:
    async def scenario() -> None:
        engine, studio = Engine(), Studio()
        with pytest.raises(InvalidRequest) as caught:
            await spoken(engine, text, studio)
        assert caught.value.param == "input" and not engine.requests and not studio.opened

    run(scenario())


# -- completeness ---------------------------------------------------------------------------------------------------


def at_first(share: float, times: int, piece: int = 1) -> Script:
    """One piece goes wrong for its first tries."""
    return lambda request, attempt: share if request.text == PARTS[piece] and attempt < times else 1.0


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("share", [0.05, 3.3, 100.0, 0.0], ids=["early", "late", "never", "nothing"])
def test_a_piece_that_can_not_be_whole_is_made_again_with_another_seed(share: float, streamed: bool) -> None:
    async def scenario() -> None:
        engine = Engine(at_first(share, 2))
        events = await spoken(engine, LONG, seed=5, streamed=streamed)
        assert done(events).incomplete == ()
        tries = [one for one in engine.requests if one.text == PARTS[1]]
        assert len(tries) == 3 and len({one.seed for one in tries}) == 3
        assert done(events).seconds == pytest.approx(sum(map(usual_seconds, PARTS)) + 0.9, abs=0.001)

    run(scenario())


SAID = {0.05: "too short", 3.3: "too long", 100.0: "cut off", 0.0: "nothing is heard"}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("share", "what"), SAID.items())
def test_what_stays_wrong_is_said_and_the_rest_is_spoken(share: float, what: str, streamed: bool) -> None:
    async def scenario() -> None:
        engine = Engine(at_first(share, 99))
        events = await spoken(engine, LONG, streamed=streamed)
        (said,) = done(events).incomplete
        assert "Part 2 of 3" in said and PARTS[1] in said and what in said
        assert len([one for one in engine.requests if one.text == PARTS[1]]) == 3
        rest = usual_seconds(PARTS[0]) + usual_seconds(PARTS[2])
        assert done(events).seconds > rest

    run(scenario())


def test_the_best_of_bad_tries_is_taken() -> None:
    async def scenario() -> None:
        shares = {0: 100.0, 1: 0.05, 2: 0.2}
        engine = Engine(lambda request, attempt: shares[attempt])
        events = await spoken(engine, PARTS[0])
        assert done(events).seconds == pytest.approx(0.2 * usual_seconds(PARTS[0]), abs=0.001)
        assert "too short" in done(events).incomplete[0]

    run(scenario())


@pytest.mark.parametrize("share", [0.05, 100.0])
def test_what_was_heard_already_is_not_made_again_but_said(share: float) -> None:
    async def scenario() -> None:
        engine = Engine(at_first(share, 99, piece=0))
        events = await spoken(engine, LONG, streamed=True)
        assert "Part 1 of 3" in done(events).incomplete[0]
        assert len([one for one in engine.requests if one.text == PARTS[0]]) == 1
        assert (await spoken(Engine(at_first(share, 1, piece=0)), LONG))[-1].incomplete == ()  # type: ignore[union-attr]

    run(scenario())


def test_instructions_widen_what_passes() -> None:
    async def scenario() -> None:
        slow = Engine(lambda request, attempt: 3.5)
        assert done(await spoken(slow, PARTS[0], instructions="Very slow and sad.")).incomplete == ()
        assert done(await spoken(slow, PARTS[0])).incomplete != ()

    run(scenario())


# -- streaming ------------------------------------------------------------------------------------------------------


def test_the_first_sound_is_sent_as_soon_as_there_is_some() -> None:
    async def scenario() -> None:
        engine = Engine()
        async with aclosing(
            Synthesis(Studio()).speak(SpeechRequest("tts", LONG, streamed=True), engine.utter)
        ) as events:
            assert isinstance(await anext(events), Started)
            assert engine.chunks == 0
            first = await anext(events)
            assert isinstance(first, SpeechData) and engine.chunks == 1
            assert 0 < len(first.data) <= 4 * CHUNK

    run(scenario())


def test_the_next_piece_is_made_while_one_is_sent_but_no_more_than_that() -> None:
    async def scenario() -> None:
        engine = Engine()
        async with aclosing(
            Synthesis(Studio()).speak(SpeechRequest("tts", LONG, streamed=True), engine.utter)
        ) as events:
            while len(engine.requests) < 2:
                await anext(events)
            await engine.finished[PARTS[1]].wait()  # nothing is taken now
            await asyncio.sleep(0.01)
            assert [one.text for one in engine.requests] == list(PARTS[:2])
        assert engine.running == 0

    run(scenario())


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_leaves_ends_all_work(streamed: bool) -> None:
    async def scenario() -> None:
        engine = Engine()
        events = Synthesis(Studio()).speak(SpeechRequest("tts", LONG * 4, streamed=streamed), engine.utter)
        assert isinstance(await anext(events), Started)
        if streamed:
            await anext(events)
        assert engine.running
        await events.aclose()
        assert engine.running == 0
        made = len(engine.requests)
        await asyncio.sleep(0.01)
        assert len(engine.requests) == made

    run(scenario())


def test_a_task_that_is_cancelled_ends_all_work() -> None:
    async def scenario() -> None:
        engine = Engine()
        engine.gate.clear()
        task = asyncio.create_task(spoken(engine, LONG))
        await engine.busy.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.01)
        assert engine.running == 0

    run(scenario())


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("piece", [0, 1])
def test_a_failure_of_the_model_is_the_answers(streamed: bool, piece: int) -> None:
    async def scenario() -> None:
        def script(request: UtteranceRequest, attempt: int) -> float:
            if request.text == PARTS[piece]:
                raise RunnerDied("The runner died. Try again.")
            return 1.0

        engine = Engine(script)
        with pytest.raises(RunnerDied):
            await spoken(engine, LONG, streamed=streamed)
        assert engine.running == 0

    run(scenario())


@pytest.mark.parametrize(("streamed", "piece"), [(False, 0), (False, 1), (True, 1)])
def test_a_death_in_a_piece_that_nobody_heard_is_made_good(streamed: bool, piece: int) -> None:
    async def scenario() -> None:
        def script(request: UtteranceRequest, attempt: int) -> float:
            if request.text == PARTS[piece] and not attempt:
                raise RunnerDied("The runner died. Try again.")
            return 1.0

        alive, mortal = Engine(), Engine(script)
        assert samples(await spoken(mortal, LONG, streamed=streamed)) == samples(
            await spoken(alive, LONG, streamed=streamed)
        )
        assert len(mortal.requests) == len(alive.requests) + 1

    run(scenario())


def test_a_whole_file_has_several_pieces_in_work_together() -> None:
    async def scenario() -> None:
        engine = Engine()
        await spoken(engine, LONG * 3)
        assert engine.most == synthesis.AHEAD_WHOLE

    run(scenario())


FIELDS: dict[str, Any] = {
    "text": "Another text than before.",
    "voice": "vivian",
    "language": "en",
    "instructions": "Gladly.",
    "speed": 2.0,
    "format": "flac",
    "streamed": True,
    "sample_rate": 16000,
    "seed": 7,
    "reference_path": "/a.wav",
    "reference_text": "This is what the recording says, more or less.",
    "priority": "background",
}


@pytest.mark.parametrize("field", [one for one in SpeechRequest.__struct_fields__ if one not in ("model", "trace")])
def test_every_field_reaches_the_model_or_the_file(field: str) -> None:
    async def came(**fields: Any) -> tuple[object, ...]:
        engine, studio = Engine(), Studio()
        request = SpeechRequest("tts", **{"text": PARTS[0], **fields})
        speaking = Synthesis(studio, lambda path, language: said())
        events = [event async for event in speaking.speak(request, engine.utter)]
        return engine.requests, studio.opened, [type(event) for event in events]

    async def said() -> str:
        return "This is what is said in the recording, more or less."

    async def scenario() -> None:
        needed = {"reference_path": "/a.wav"} if field == "reference_text" else {}
        assert await came(**needed, **{field: FIELDS[field]}) != await came(**needed)

    run(scenario())


# -- heard again ----------------------------------------------------------------------------------------------------


class Ear:
    """Hears what it is told of a text: the share of its words, in each of the tries."""

    def __init__(self, **shares: list[float]) -> None:
        self.shares = {text: iter(heard) for text, heard in shares.items()}
        self.asked: list[str] = []

    async def texts(self, text: str, samples: bytes, language: str, trace: str) -> tuple[str, str] | None:
        await asyncio.sleep(0)
        self.asked.append(text)
        words = text.split()
        share = next(self.shares.get(text.split()[0], iter(())), 1.0)
        return None if share < 0 else (text, " ".join(words[: round(share * len(words))]))


async def listened(engine: Engine, ear: Ear, text: str = LONG, **fields: Any) -> list[SpeechEvent]:
    request = SpeechRequest("tts", text, **fields)
    one = Synthesis(Studio(), listen=ear.texts)
    return [event async for event in one.speak(request, engine.utter)]


@promise("audio:speech:heard")
@pytest.mark.parametrize("streamed", [False, True])
def test_a_piece_of_which_words_were_not_heard_is_made_once_more_and_else_told(streamed: bool) -> None:
    async def scenario() -> None:
        engine, ear = Engine(), Ear(We=[0.5, 1.0], Now=[0.5, 0.6, 1.0])
        end = done(await listened(engine, ear, streamed=streamed))
        tried = [one.text for one in engine.requests]
        assert [tried.count(text) for text in PARTS] == [1, 2, 2]
        (told,) = end.incomplete
        assert told.startswith("Part 3 of 3 ('Now let us begin with our work.')") and "'with our work'" in told

    run(scenario())


@promise("audio:speech:heard")
def test_the_first_piece_of_a_stream_is_told_at_the_end_for_it_was_heard() -> None:
    async def scenario() -> None:
        engine, ear = Engine(), Ear(Good=[0.5], Now=[0.4, 0.4])
        end = done(await listened(engine, ear, streamed=True))
        assert [told[:6] for told in end.incomplete] == ["Part 1", "Part 3"]
        assert sum(one.text == PARTS[0] for one in engine.requests) == 1

    run(scenario())


@promise("audio:speech:heard")
@pytest.mark.parametrize("streamed", [False, True])
def test_where_nobody_can_listen_the_length_alone_decides(streamed: bool) -> None:
    async def scenario() -> None:
        engine, ear = Engine(), Ear(Good=[-1], We=[-1], Now=[-1])
        assert done(await listened(engine, ear, streamed=streamed)).incomplete == ()
        assert len(engine.requests) == 3 and sorted(ear.asked) == sorted(PARTS)

    run(scenario())


def test_who_listens_is_asked_where_the_length_leaves_a_doubt() -> None:
    async def scenario() -> None:
        for share, asked in ((1.0, True), (1.5, False), (2.2, True), (0.1, False), (9.0, False)):
            engine, ear = Engine(lambda request, attempt, share=share: share), Ear()  # type: ignore[misc]
            await listened(engine, ear, PARTS[0])
            assert bool(ear.asked) == asked, share

    run(scenario())


def test_a_text_that_is_read_quickly_and_was_heard_whole_is_whole() -> None:
    async def scenario() -> None:
        quick = bounds(PARTS[0], False)[0] / usual_seconds(PARTS[0]) * 0.9
        engine, ear = Engine(lambda request, attempt: quick), Ear()
        assert done(await listened(engine, ear, PARTS[0])).incomplete == () and len(engine.requests) == 1
        assert done(await spoken(engine, PARTS[0])).incomplete != ()

    run(scenario())


@pytest.mark.parametrize("streamed", [False, True])
def test_who_leaves_while_somebody_listens_ends_that_too(streamed: bool) -> None:
    async def scenario() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def texts(text: str, samples: bytes, language: str, trace: str) -> tuple[str, str] | None:
            begun.set()
            try:
                await asyncio.sleep(3600)
            finally:
                ended.set()
            return None

        speaking = Synthesis(Studio(), listen=texts)
        task = asyncio.create_task(
            anext_all(speaking.speak(SpeechRequest("tts", PARTS[0], streamed=streamed), Engine().utter))
        )
        await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert ended.is_set()

    run(scenario())


async def anext_all(events: AsyncGenerator[SpeechEvent]) -> None:
    async with aclosing(events):
        async for _ in events:
            pass


# -- joining --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
def test_sixty_pieces_lose_nothing_and_keep_one_level_without_jumps(streamed: bool) -> None:
    async def scenario() -> None:
        lines = [f"This is line number {number} of it." for number in range(60)]  # of 2 seconds each
        sizes = [0.12, 0.2, 0.3, 0.16, 0.23]
        engine = Engine(size=lambda text: sizes[sum(map(ord, text)) % 5])
        events = await spoken(engine, "\n".join(lines), streamed=streamed)
        end = done(events)
        assert sorted(one.text for one in engine.requests) == sorted(lines) and end.incomplete == ()
        sound = samples(events)
        assert len(sound) == round(end.seconds * VOICE_RATE)
        levels, start = [], 0
        for line in lines:
            size = int(usual_seconds(line) * VOICE_RATE)
            levels.append(crossfade.level(sound[start : start + size]))
            start += size + round(0.45 * VOICE_RATE)
        assert max(levels) / min(levels) < 1.05
        steepest = 0.3 * 2 * math.pi / PERIOD * 1.1
        assert max(abs(after - before) for before, after in zip(sound, sound[1:], strict=False)) < steepest

    run(scenario())


def test_a_long_text_without_a_mark_and_a_long_address_are_spoken_whole() -> None:
    async def scenario() -> None:
        for text in ("天地玄黄宇宙洪荒" * 60, "https://example.com/" + "abcdef/ghi-jkl?mno=pqr&" * 12 + "end"):
            engine = Engine(size=lambda text: 0.2)
            events = await spoken(engine, text)
            ordered = [piece.text for piece in split(speakable(text))]
            assert sorted(one.text for one in engine.requests) == sorted(ordered) and "".join(ordered) == text
            assert done(events).incomplete == ()

    run(scenario())


# -- voices to imitate ----------------------------------------------------------------------------------------------


async def imitated(
    engine: Engine, studio: Studio, store: VoiceStore | None = None, heard: str | None = None, **fields: Any
) -> list[str]:
    """Languages and paths with which the transcription was asked."""
    asked: list[str] = []

    async def transcribe(path: str, language: str) -> str:
        asked.append(f"{path} {language}")
        return heard or ""

    one = Synthesis(studio, None if heard is None else transcribe, store)
    async for _ in one.speak(SpeechRequest("tts", PARTS[0], **fields), engine.utter):
        pass
    return asked


FITTING = "This is what the recording says, more or less."


def test_a_recording_and_its_text_reach_the_model() -> None:
    async def scenario() -> None:
        engine = Engine()
        await imitated(engine, Studio(), reference_path="/a.wav", reference_text=FITTING)
        (request,) = engine.requests
        assert (len(request.reference), request.reference_text) == (4 * 4 * VOICE_RATE, FITTING)

    run(scenario())


def test_a_missing_text_is_transcribed() -> None:
    async def scenario() -> None:
        engine = Engine()
        asked = await imitated(engine, Studio(), heard=FITTING, reference_path="/a.wav", language="en")
        assert asked == ["/a.wav en"] and engine.requests[0].reference_text == FITTING

    run(scenario())


WRONG_CLIPS: list[tuple[float, str | None, dict[str, Any], str, str]] = [
    (2.0, None, {"reference_text": FITTING}, "reference_audio", "2.0 seconds long"),
    (31.0, None, {"reference_text": FITTING}, "reference_audio", "31.0 seconds long"),
    (4.0, None, {"reference_text": "Yes."}, "reference_text", "doesn't fit"),
    (4.0, None, {"reference_text": FITTING * 10}, "reference_text", "doesn't fit"),
    (4.0, None, {}, "reference_text", "missing"),
    (4.0, "", {}, "reference_audio", "No speech"),
    (4.0, None, {"reference_path": "/broken", "reference_text": FITTING}, "reference_audio", "isn't a recording"),
    (4.0, None, {"reference_path": "/cut", "reference_text": FITTING}, "reference_audio", "cut off at its end"),
    (4.0, None, {"reference_path": "/gap", "reference_text": FITTING}, "reference_audio", "missing within it"),
    (4.0, None, {"voice": "vivian", "reference_text": FITTING}, "voice", "not both"),
    (4.0, None, {"reference_path": "", "reference_text": FITTING}, "reference_text", "needs the recording"),
]


@pytest.mark.parametrize(("seconds", "heard", "fields", "param", "message"), WRONG_CLIPS, ids=range(len(WRONG_CLIPS)))
def test_a_recording_that_will_not_do_is_refused_before_any_work(
    seconds: float, heard: str | None, fields: dict[str, Any], param: str, message: str
) -> None:
    async def scenario() -> None:
        engine = Engine()
        with pytest.raises(InvalidRequest, match=message) as caught:
            await imitated(engine, Studio(seconds), heard=heard, **{"reference_path": "/a.wav", **fields})
        assert caught.value.param == param and not engine.requests

    run(scenario())


def test_a_text_that_is_not_known_in_full_is_no_text_of_a_voice() -> None:
    whole = Transcript("Hello there.", (), "en", 4.0, Usage(0, 0))
    assert spoken_text(whole) == "Hello there."
    with pytest.raises(InvalidRequest, match=r"in full.*Words are missing\.") as caught:
        spoken_text(msgspec.structs.replace(whole, incomplete=("Words are missing.",)))
    assert caught.value.param == "reference_text"


def test_a_stored_voice_is_imitated_by_its_name_and_listed_where_a_name_is_wrong(tmp_path: Path) -> None:
    store = VoiceStore(tmp_path / "voices")
    (tmp_path / "a.wav").write_bytes(b"sound")
    store.add("Anna", tmp_path / "a.wav", FITTING, "I agree.")

    async def scenario() -> None:
        engine, studio = Engine(), Studio()
        await imitated(engine, studio, store, voice="anna")
        (request,) = engine.requests
        assert (request.voice, request.reference_text) == ("", FITTING)
        assert studio.decoded == [str(tmp_path / "voices" / "anna" / "recording")]

        def wrong(request: UtteranceRequest, attempt: int) -> float:
            raise InvalidRequest("There is no voice 'bob'.", param="voice")

        with pytest.raises(InvalidRequest, match="no voice 'bob'.*Stored voices: Anna"):
            await imitated(Engine(wrong), studio, store, voice="bob")

        def imitates_none(request: UtteranceRequest, attempt: int) -> float:
            raise InvalidRequest("This model imitates none.", param="reference_audio")

        with pytest.raises(InvalidRequest, match="'anna' is a stored voice") as caught:
            await imitated(Engine(imitates_none), studio, store, voice="anna")
        assert caught.value.param == "voice"

    run(scenario())
