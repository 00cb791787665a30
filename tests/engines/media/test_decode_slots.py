"""Places of recordings: one after the other, and taken from clients that don't read while others wait."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from engines.ipc.unread import PATIENCE_SECONDS
from engines.media.client import DecodeProgress, Ending, PieceOptions, RecordingPiece
from engines.media.decode_slots import DecodeSlots, SlotHolder
from engines.transcription.transcription import Transcription
from engines.types.audio import Transcript
from engines.types.errors import ClientTooSlow
from engines.types.streams import last
from tests.engines.transcription.test_transcription import Media, Model, asking, ear, pieces, run
from tests.promises import promise


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self._asked = asyncio.Event()

    def __call__(self) -> float:
        self._asked.set()
        return self.now

    async def until_asked(self) -> None:
        """By who waits for a place, for instance."""
        self._asked.clear()
        await self._asked.wait()


class OnePlace(Media):
    """A recording of three pieces, for one client at a time."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(pieces(0, 1, 2))
        self.places = DecodeSlots(1, clock, tick=0.001)
        self.clock = clock

    async def pieces(
        self, path: str, options: PieceOptions, reader: SlotHolder | None = None
    ) -> AsyncGenerator[RecordingPiece | DecodeProgress | Ending, None]:
        assert reader is not None
        reader._clock = self.clock
        async with self.places.place(reader):
            async for item in super().pieces(path, options):
                yield item


@promise("core:slow-client:place")
def test_a_client_that_does_not_read_gives_its_place_up_to_who_waits() -> None:
    async def work() -> None:
        clock = Clock()
        transcription = Transcription(OnePlace(clock), ear(Model().hear))
        async with aclosing(transcription.run(asking())) as events:
            await anext(events)  # and nothing more for a while
            waits = asyncio.create_task(last(transcription.run(asking()), Transcript))
            await clock.until_asked()
            assert not waits.done()
            clock.now = PATIENCE_SECONDS + 1
            assert (await waits).text == "第0句。第1句。第2句。"
            with pytest.raises(ClientTooSlow):
                await anext(events)

    run(work())


def test_with_nobody_waiting_a_client_may_take_all_its_time() -> None:
    async def work() -> None:
        clock = Clock()
        async with aclosing(Transcription(OnePlace(clock), ear(Model().hear)).run(asking())) as events:
            await anext(events)
            clock.now = 10 * PATIENCE_SECONDS
            assert (await last(events, Transcript)).text == "第0句。第1句。第2句。"

    run(work())


def test_who_reads_keeps_its_place_however_long_its_recording() -> None:
    async def work() -> None:
        clock, model = Clock(), Model()
        model.gates[2] = asyncio.Event()
        transcription = Transcription(OnePlace(clock), ear(model.hear))
        first = asyncio.create_task(last(transcription.run(asking()), Transcript))
        await model.until(lambda: len(model.requests) == 3)
        second = asyncio.create_task(last(transcription.run(asking()), Transcript))
        clock.now = 10 * PATIENCE_SECONDS
        await clock.until_asked()
        model.gates[2].set()
        assert (await first).text == (await second).text

    run(work())


def test_who_is_cancelled_while_it_waits_takes_no_place() -> None:
    async def work() -> None:
        clock, gate = Clock(), asyncio.Event()
        places = DecodeSlots(1, clock, tick=0.001)

        async def use() -> None:
            async with places.place():
                await gate.wait()

        holds, *waiting = [asyncio.create_task(use()) for _ in range(4)]
        await clock.until_asked()
        waiting[0].cancel()
        gate.set()
        waiting[1].cancel()
        await asyncio.wait([holds, *waiting])
        assert [one.cancelled() for one in waiting] == [True, True, False]
        await use()

    run(work())
