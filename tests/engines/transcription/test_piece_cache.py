"""What was heard, kept for a while: apart for each who asks, within its bounds, and never longer than said."""

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from engines.media.client import PieceOptions
from engines.transcription.piece_cache import ENTRY_BYTES, KnownPieces, PieceCache
from engines.transcription.transcription import Transcriber, Transcription
from engines.types.audio import EAR_RATE, PieceDone, PieceRequest, Segment, Transcript, TranscriptText, Word
from engines.types.chat import Delta
from engines.types.common import Started, Timings, Usage
from engines.types.streams import last
from tests.engines.transcription.test_transcription import Media, Model, asking, ear, number_of, pieces, run, said
from tests.promises import promise

SECONDS, BYTES = 900.0, 4 * ENTRY_BYTES


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def done(text: str) -> PieceDone:
    word = Word(text, 0.0, 1.0, 0.5)
    return PieceDone((Segment(0.0, 1.0, text, (word,)),), "en", "stop", Usage(1, 2), Timings(0.0, 0.1, 0.2))


# -- the store ------------------------------------------------------------------------------------------------------


class Stored(RuleBasedStateMachine):
    """Beside all that was ever put: what is there is the newest, is not too old, and is within bounds."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.cache = PieceCache(SECONDS, self.clock, BYTES)
        self.put: dict[bytes, tuple[float, PieceDone]] = {}

    @rule(key=st.sampled_from([b"a", b"b", b"c", b"d", b"e"]), text=st.text(max_size=2 * ENTRY_BYTES))
    def keep(self, key: bytes, text: str) -> None:
        text = text.encode("utf-8", "replace").decode()
        self.cache.put(key, done(text))
        self.put[key] = (self.clock.now, done(text))

    @rule(seconds=st.sampled_from([0.0, 1.0, 450.0, 899.0, 900.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def expire(self) -> None:
        again = self.cache.expire()
        assert again is None or 0 < again <= SECONDS
        assert (again is None) == (self.cache.size == 0)

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        assert self.cache.size == 0

    @invariant()
    def holds(self) -> None:
        assert 0 <= self.cache.size <= BYTES
        for key, (when, value) in self.put.items():
            found = self.cache.get(key)
            assert found is None or (found == value and self.clock.now < when + SECONDS)


TestStored = Stored.TestCase


def test_of_what_is_too_much_the_ones_unused_longest_go() -> None:
    size = ENTRY_BYTES + len(msgspec.msgpack.encode(done("x")))
    cache = PieceCache(SECONDS, Clock(), 2 * size)
    for key in (b"a", b"b"):
        cache.put(key, done("x"))
    assert cache.get(b"a") is not None
    cache.put(b"c", done("x"))
    assert [cache.get(key) is not None for key in (b"a", b"b", b"c")] == [True, False, True]
    cache.put(b"d", done("x" * 3 * size))
    assert cache.get(b"d") is None and cache.size == 0


def test_switched_off_it_keeps_nothing() -> None:
    cache = PieceCache(0.0, Clock())
    cache.put(b"a", done("x"))
    assert cache.get(b"a") is None and cache.size == 0 and cache.expire() is None


# -- whose it is, and of what ---------------------------------------------------------------------------------------

ASKED = PieceRequest("qwen3-asr", b"\0" * 8, "en", "names")
OTHERS: dict[str, Any] = {
    "samples": b"\0\0\0\0\0\0\0\1",
    "language": "zh",
    "context": "other names",
    "repetition_penalty": 1.15,
    "translate": True,
    "words": True,
    "beginning": "so",
}


def test_every_option_of_a_piece_is_another_piece() -> None:
    told = {
        field for field in PieceRequest.__struct_fields__ if field not in ("model", "trace", "temperature", "priority")
    }
    assert set(OTHERS) == told
    known = KnownPieces(PieceCache(SECONDS, Clock()), ("", "folder 1"))
    known.keep(ASKED, done("x"))
    for field, value in OTHERS.items():
        assert known.find(msgspec.structs.replace(ASKED, **{field: value})) is None, field
    same = msgspec.structs.replace(ASKED, model="Qwen/other-name", trace="another try")
    assert known.find(same) == done("x")


@promise("audio:retry:apart")
@pytest.mark.parametrize("scope", [("key", "folder 1"), ("", "folder 2"), ("", ""), ("folder 1", "")])
def test_another_key_or_model_finds_nothing(scope: tuple[str, ...]) -> None:
    cache = PieceCache(SECONDS, Clock())
    KnownPieces(cache, ("", "folder 1")).keep(ASKED, done("x"))
    assert KnownPieces(cache, scope).find(ASKED) is None


@given(st.floats(0.01, 1))
def test_what_is_drawn_at_random_is_drawn_again(temperature: float) -> None:
    known = KnownPieces(cache := PieceCache(SECONDS, Clock()), ())
    known.keep(msgspec.structs.replace(ASKED, temperature=temperature), done("x"))
    assert cache.size == 0


# -- a recording, asked for again -----------------------------------------------------------------------------------


class Asked:
    """A transcription of five pieces over one cache; `model` answers each after its turn of a scripted clock."""

    def __init__(self, identity: Callable[[], str] = lambda: "folder 1") -> None:
        self.clock = Clock()
        self.cache = PieceCache(SECONDS, self.clock)
        self.identity = identity
        self.model = Model()

    def transcription(self, count: int = 5) -> Transcription:
        async def ear(request: Any) -> Transcriber:
            return Transcriber("main-name", PieceOptions(), self.model.hear, identity=self.identity())

        return Transcription(Media(pieces(*range(count))), ear, cache=self.cache)

    async def whole(self, **fields: Any) -> Transcript:
        return await last(self.transcription().run(asking(**fields)), Transcript)

    def is_hearing(self, number: int) -> bool:
        return self.model.running > 0 and number in self.heard()[-4:]

    def heard(self) -> list[int]:
        return [number_of(request) for request in self.model.requests]


WHOLE = "".join(f"第{number}句。" for number in range(5))


@promise("audio:retry:goes-on")
def test_a_client_that_gives_up_and_asks_again_goes_on_where_it_was_cut() -> None:
    """A client that waits only as long as a model needs for one piece; each of its tries is one piece further."""

    async def work() -> None:
        asked = Asked()
        for number in range(1, 5):
            asked.model.gates[number] = asyncio.Event()
        for number in range(1, 5):
            task = asyncio.create_task(asked.whole())
            await asked.model.until(functools.partial(asked.is_hearing, number))
            task.cancel()
            await asyncio.wait([task])
            assert asked.model.running == 0  # it freed its places at once
            asked.model.gates[number].set()
        asked.model.requests.clear()
        assert (await asked.whole()).text == WHOLE
        assert min(asked.heard()) >= 1  # the first was heard once, in the first try

    run(work())


@promise("audio:retry:goes-on")
def test_a_piece_that_takes_longer_than_its_client_waits_is_heard_in_halves_in_the_end() -> None:
    """Else no try would ever come further. A model that takes as long as the sound has, a client that waits 20 s."""

    async def work() -> None:
        cache, tries, patience, model_works = PieceCache(SECONDS, Clock()), 0, 0.0, asyncio.Event()

        async def hear(request: PieceRequest) -> AsyncGenerator[Started | Delta | PieceDone]:
            nonlocal patience
            patience -= len(request.samples) / (4 * EAR_RATE)
            if patience < 0:
                model_works.set()
                await asyncio.Event().wait()
            yield said("好")

        while True:
            tries, patience = tries + 1, 20.0
            model_works.clear()
            transcription = Transcription(Media(pieces(0, 1, seconds=60.0)), ear(hear), cache=cache)
            whole = asyncio.create_task(last(transcription.run(asking()), Transcript))
            gives_up = asyncio.create_task(model_works.wait())
            await asyncio.wait([whole, gives_up], return_when=asyncio.FIRST_COMPLETED)
            if whole.done():
                break
            whole.cancel()
            await asyncio.wait([whole])
            assert tries < 30
        gives_up.cancel()
        assert [one.start for one in whole.result().segments] == pytest.approx([0, 15, 30, 45, 60, 75, 90, 105], abs=6)

    run(work())


@promise("audio:retry:goes-on")
def test_what_was_heard_is_told_again_without_a_model_and_with_the_same_figures() -> None:
    async def work() -> None:
        asked = Asked()
        first = await asked.whole()
        assert first.text == WHOLE and asked.heard() == [0, 1, 2, 3, 4]
        assert await asked.whole(trace="again") == first
        assert [event async for event in asked.transcription().run(asking(streamed=True))][-1] == first
        assert asked.heard() == [0, 1, 2, 3, 4]

    run(work())


@promise("audio:retry:apart")
def test_it_is_heard_again_for_another_key_in_another_way_after_a_while_and_by_a_changed_model() -> None:
    async def work() -> None:
        state = ["folder 1"]
        asked = Asked(lambda: state[0])
        for fields in ({}, {"tenant": "other"}, {"language": "zh"}, {"prompt": "names"}, {"temperature": 0.5}):
            assert (await asked.whole(**fields)).text == WHOLE
        assert (await asked.whole(temperature=0.5)).text == WHOLE
        assert len(asked.heard()) == 6 * 5
        state[0] = "folder 1, changed"
        await asked.whole()
        asked.clock.now += SECONDS
        await asked.whole()
        assert len(asked.heard()) == 8 * 5

    run(work())


def test_of_a_retry_the_first_piece_that_is_not_known_is_heard_alone() -> None:
    """So that it is kept as soon as can be, however soon the client gives up again."""

    async def work() -> None:
        asked = Asked()
        await last(asked.transcription(count=2).run(asking()), Transcript)
        asked.model.gates[2] = gate = asyncio.Event()
        task = asyncio.create_task(asked.whole())
        await asked.model.until(lambda: 2 in asked.heard())
        for _ in range(20):
            await asyncio.sleep(0)
        assert asked.heard() == [0, 1, 2]
        gate.set()
        assert (await task).text == WHOLE

    run(work())


def test_known_text_is_streamed_as_any_other() -> None:
    async def work() -> None:
        asked = Asked()
        await asked.whole()
        events = [event async for event in asked.transcription().run(asking(streamed=True))]
        assert "".join(event.text for event in events if isinstance(event, TranscriptText)) == WHOLE

    run(work())
