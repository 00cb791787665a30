"""Speaking from text to file: a checkpoint in miniature, and the media process itself."""

import asyncio
import io
import itertools
import wave
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from demo.voice_checkpoints import make_qwen3_tts
from engines.ipc import job, runner_protocol
from engines.media.client import Media
from engines.runner.qwen3_tts import model as models
from engines.runner.qwen3_tts.engine import VoiceEngine
from engines.runner.qwen3_tts.prompt import UtteranceWriter
from engines.synthesis.synthesis import Synthesis
from engines.types.audio import Sound, SpeechData, SpeechDone, SpeechRequest, UtteranceDone, UtteranceRequest
from engines.types.common import Started

TEXT = "Good morning to you all! How are you today?"


class InProcess:
    """What the runtime and a runner do, in one process."""

    def __init__(self, folder: Path) -> None:
        self._writer = UtteranceWriter.read(folder, 4096)
        self._engine = VoiceEngine(models.load(folder), 1 << 30)
        self._ids = itertools.count()
        self._boxes: dict[int, asyncio.Queue[runner_protocol.Said | runner_protocol.Finished | job.Failed]] = {}

    async def utter(self, request: UtteranceRequest) -> AsyncGenerator[Started | Sound | UtteranceDone]:
        prompt, id = self._writer.write(request), next(self._ids)
        box = self._boxes[id] = asyncio.Queue()
        self._engine.submit(id, prompt, 64)
        yield Started("tts", prompt.prompt_tokens)
        while True:
            while box.empty():
                for report in self._engine.step():
                    self._boxes[report.id].put_nowait(report)
                await asyncio.sleep(0)
            match box.get_nowait():
                case runner_protocol.Said(_, Sound() as sound):
                    yield sound
                case runner_protocol.Finished(_, UtteranceDone() as end):
                    yield end
                    return
                case other:
                    raise AssertionError(other)


@pytest.mark.parametrize(("format", "streamed", "speed"), [("wav", False, 2.0), ("pcm", True, 1.0)])
def test_a_text_becomes_a_file_of_the_length_that_is_said(
    format: str, streamed: bool, speed: float, tmp_path: Path
) -> None:
    make_qwen3_tts(tmp_path)

    async def scenario() -> tuple[bytes, SpeechDone]:
        async with Media() as media:
            # The noise of such a checkpoint is of any length: the fixed seed makes it the same each time.
            request = SpeechRequest("tts", TEXT, seed=1, format=format, streamed=streamed, speed=speed)  # type: ignore[arg-type]
            events = [event async for event in Synthesis(media).speak(request, InProcess(tmp_path).utter)]
        assert isinstance(events[0], Started) and isinstance(events[-1], SpeechDone)
        data = [event.data for event in events if isinstance(event, SpeechData)]
        assert streamed or len(data) == 1
        return b"".join(data), events[-1]

    data, done = asyncio.run(asyncio.wait_for(scenario(), 60))
    assert done.seconds > 0
    if format == "wav":
        with wave.open(io.BytesIO(data)) as file:
            assert file.getnframes() / file.getframerate() == pytest.approx(done.seconds, abs=0.05)
    else:
        assert len(data) / 2 / 24_000 == pytest.approx(done.seconds, abs=0.001)
