"""A transcript that is streamed while it is being written, by the trained toy, over real processes and a socket."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from msgspec import structs

from demo.recordings import BundledRecording, recordings
from demo.speech_checkpoints import trained_qwen3_asr
from engines.models.catalog import Catalog, Roots
from engines.service.options import RuntimeOptions
from engines.service.pool import PoolLimits
from engines.service.service import AudioOptions, Local
from engines.transcription.transcription import Transcriber
from engines.types.audio import PieceDone, PieceRequest, PieceText, TranscriptionRequest
from engines.types.chat import Delta
from engines.types.common import Started
from engines.types.errors import RunnerDied
from openai_compat import app
from tests.promises import promise

LIMITS = PoolLimits(8 << 30, max_running=16, queue_limit=64, idle_unload=-1.0, patience=30.0)


class Withheld(Local):
    """No piece is done before `told` is set."""

    told: asyncio.Event

    async def _ear(self, request: TranscriptionRequest) -> Transcriber:
        found = await super()._ear(request)

        async def hear(piece: PieceRequest) -> AsyncGenerator[Started | Delta | PieceDone]:
            async with aclosing(found.hear(piece)) as events:
                async for event in events:
                    if isinstance(event, PieceDone):
                        await self.told.wait()
                    yield event

        return structs.replace(found, hear=hear)


class Broken(Local):
    """The first answer breaks off after `behind` of its texts, as when the runner dies; what was asked is kept."""

    behind: int
    asked: list[PieceRequest]

    async def _ear(self, request: TranscriptionRequest) -> Transcriber:
        found = await super()._ear(request)

        async def hear(piece: PieceRequest) -> AsyncGenerator[Started | Delta | PieceDone]:
            self.asked.append(piece)
            texts = 0
            async with aclosing(found.hear(piece)) as events:
                async for event in events:
                    yield event
                    texts += isinstance(event, PieceText)
                    if len(self.asked) == 1 and texts == self.behind:
                        raise RunnerDied("The runner died.", retry_after=1.0)

        return structs.replace(found, hear=hear)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    trained_qwen3_asr(folder / "toy-asr")
    return folder


@asynccontextmanager
async def served(local: Local) -> AsyncIterator[str]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    built = app.build(local, app.AppOptions())
    server = uvicorn.Server(uvicorn.Config(built, log_config=None, timeout_graceful_shutdown=1))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


async def told(url: str, recording: BundledRecording) -> AsyncGenerator[dict[str, Any]]:
    fields = {"model": "toy-asr", "stream": "true", "response_format": "verbose_json"}
    files = {"file": ("a.wav", recording.path.read_bytes())}
    async with (
        httpx2.AsyncClient(timeout=60) as client,
        client.stream("POST", f"{url}/v1/audio/transcriptions", data=fields, files=files) as answer,
    ):
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


@promise("audio:early")
@pytest.mark.parametrize("recording", recordings(), ids=lambda one: one.name)
def test_the_first_text_of_a_stream_comes_before_its_piece_is_done(models: Path, recording: BundledRecording) -> None:
    async def main() -> None:
        catalog = Catalog(Roots(configured=(models,)), {})
        async with (
            asyncio.timeout(100),
            Withheld(catalog, RuntimeOptions(LIMITS), AudioOptions(models / "voices")) as local,
        ):
            local.told = asyncio.Event()
            deltas: list[str] = []
            async with served(local) as url, aclosing(told(url, recording)) as events:
                async for event in events:
                    if event.get("delta"):
                        local.told.set()
                        deltas.append(event["delta"])
            assert event["type"] == "transcript.text.done" and event["timing"] == "approximate"
            assert "".join(deltas) == event["text"] == recording.text and len(deltas) > 1

    asyncio.run(main())


@promise("audio:early")
@pytest.mark.parametrize("recording", recordings(), ids=lambda one: one.name)
def test_a_stream_whose_model_breaks_off_goes_on_with_the_same_text(models: Path, recording: BundledRecording) -> None:
    async def main() -> None:
        catalog = Catalog(Roots(configured=(models,)), {})
        async with (
            asyncio.timeout(100),
            Broken(catalog, RuntimeOptions(LIMITS), AudioOptions(models / "voices")) as local,
        ):
            async with served(local) as url:
                for local.behind in (1, 2, 4):
                    local.asked = []
                    async with aclosing(told(url, recording)) as events:
                        seen = [event async for event in events]
                    deltas = [event["delta"] for event in seen if event["type"] == "transcript.text.delta"]
                    assert "".join(deltas) == seen[-1]["text"] == recording.text and "incomplete" not in seen[-1]
                    _, again = local.asked
                    assert recording.text.startswith(again.beginning)
                    assert again.beginning or local.behind == 1
                    assert again.language == (recording.language if again.beginning else "")

    asyncio.run(main())
