"""Pieces and alignments through a runner's process, as the server asks for them."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from pathlib import Path

import pytest

from demo.speech_checkpoints import make_aligner, make_qwen3_asr
from engines.models.catalog import Catalog, Roots
from engines.service.options import RuntimeOptions
from engines.service.pool import PoolLimits
from engines.service.runtime import Runtime
from engines.types.audio import AlignmentDone, AlignmentRequest, PieceDone, PieceRequest
from engines.types.chat import ChatRequest, Delta, Message
from engines.types.errors import InvalidRequest, WrongCapability
from tests.engines.transcription.sounds import sound

LIMITS = PoolLimits(4 << 30, max_running=16, queue_limit=64, idle_unload=-1.0, patience=30.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models")
    make_qwen3_asr(made / "toy-asr")
    make_aligner(made / "toy-aligner")
    return made


def run(folder: Path, body: Callable[[Runtime], Coroutine[None, None, None]]) -> None:
    async def main() -> None:
        catalog = Catalog(Roots(configured=(folder,)), {})
        async with asyncio.timeout(120), Runtime(catalog, RuntimeOptions(LIMITS, spare=False)) as runtime:
            await body(runtime)

    asyncio.run(main())


async def hear(runtime: Runtime, seconds: float, language: str = "en") -> tuple[str, PieceDone]:
    async with aclosing(runtime.run(PieceRequest("toy-asr", sound(seconds), language))) as events:
        seen = [event async for event in events]
    assert isinstance(seen[-1], PieceDone)
    return "".join(event.text for event in seen if isinstance(event, Delta)), seen[-1]


def test_pieces_that_are_heard_together_stream_what_their_segments_hold(folder: Path) -> None:
    async def body(runtime: Runtime) -> None:
        alone = [await hear(runtime, seconds) for seconds in (2.0, 9.0)]
        together = await asyncio.gather(*(hear(runtime, seconds) for seconds in (2.0, 9.0)))
        for (text, done), (expected, _) in zip(together, alone, strict=True):
            assert text == expected == done.segments[0].text
            assert done.language == "en"

    run(folder, body)


def test_a_client_that_leaves_frees_the_engine_for_the_next(folder: Path) -> None:
    async def body(runtime: Runtime) -> None:
        expected, _ = await hear(runtime, 2.0)
        async with aclosing(runtime.run(PieceRequest("toy-asr", sound(60.0), "en"))) as events:
            async for event in events:
                if isinstance(event, Delta):
                    break
        assert (await hear(runtime, 2.0))[0] == expected

    run(folder, body)


def test_words_are_placed_and_what_is_wrong_is_the_requests_fault(folder: Path) -> None:
    async def body(runtime: Runtime) -> None:
        request = AlignmentRequest("toy-aligner", sound(2.0), "zero one", "en")
        async with aclosing(runtime.run(request)) as events:
            seen = [event async for event in events]
        assert isinstance(seen[-1], AlignmentDone)
        assert [word.text for word in seen[-1].words] == ["zero", "one"]
        with pytest.raises(InvalidRequest, match="no word"):
            async with aclosing(runtime.run(AlignmentRequest("toy-aligner", sound(2.0), "…", "en"))) as events:
                [event async for event in events]
        with pytest.raises(InvalidRequest, match="Swahili"):
            await hear(runtime, 2.0, "sw")
        with pytest.raises(WrongCapability):
            async with aclosing(runtime.run(ChatRequest("toy-asr", (Message("user", "hello"),)))) as answer:
                [event async for event in answer]

    run(folder, body)
