"""After a failure of the device no engine goes on: what else stood in the failed buffer would read as if computed."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from demo.checkpoints import make_qwen3
from demo.speech_checkpoints import make_qwen3_asr
from demo.voice_checkpoints import make_qwen3_tts
from demo.whisper_checkpoint import make_whisper
from engines.ipc import job, runner_protocol
from engines.ipc.device_fault import is_device_fault
from engines.models.catalog import Catalog, Roots
from engines.runner.generation import model as models
from engines.runner.generation.engine import DecodingEngine
from engines.runner.generation.kv import caches
from engines.runner.generation.kv.prefix_cache import PrefixCache
from engines.runner.generation.prompt import Prompt
from engines.runner.generation.sampling.sampler import Choices
from engines.runner.qwen3_asr import model as hearing
from engines.runner.qwen3_asr.encoder import SoundTower
from engines.runner.qwen3_asr.output_markup import TEXT
from engines.runner.qwen3_asr.output_text import PieceAnswer
from engines.runner.qwen3_asr.prompt import PieceWriter
from engines.runner.qwen3_tts import model as voices
from engines.runner.qwen3_tts.engine import VoiceEngine
from engines.runner.qwen3_tts.prompt import UtteranceWriter
from engines.runner.tokenization.detokenize import TokenTable
from engines.runner.whisper import model as whisper
from engines.service.options import RuntimeOptions
from engines.service.pool import PoolLimits
from engines.service.runtime import Runtime
from engines.types.audio import PieceRequest, UtteranceRequest
from engines.types.chat import ChatRequest, Message, Sampling
from engines.types.errors import RunnerDied
from tests.engines.runner.whisper.desk import Desk, request
from tests.engines.transcription.sounds import sound
from tests.promises import promise

FAULT = "[METAL] Command buffer execution failed: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOut)."


def fault(*_: Any, **__: Any) -> Any:
    raise RuntimeError(FAULT)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError(FAULT), True),
        (RuntimeError("[malloc_or_wait] Unable to allocate 68719476736 bytes."), True),
        (RuntimeError("[metal::malloc] Attempting to allocate 90 bytes which is greater than the maximum"), True),
        (RuntimeError("cudaMallocAsync(&p, n, s) failed: out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("the text says [METAL]"), False),
        (ValueError("[matmul] Last dimension of first input doesn't match"), False),
        (ValueError("[METAL]"), False),
    ],
)
def test_a_failure_of_the_device_is_told_from_one_of_the_request(error: Exception, expected: bool) -> None:
    assert is_device_fault(error) is expected


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "toy"
    make_qwen3(made)
    return made


def until_idle(engine: Any) -> Iterator[runner_protocol.Report]:
    while not engine.idle:
        yield from engine.step()


PHASES: list[tuple[type | Any, str]] = [
    (models.Model, "feed"),
    (models.Model, "prefill"),
    (models.Model, "prefill_rows"),
    (models.Model, "decode"),
    (PrefixCache, "capture"),
    (caches, "merge"),
    (caches, "extract"),
    (Choices, "wait"),
    (Choices, "_token"),
]


@promise("mac:device:no-wrong-text")
@pytest.mark.parametrize(("owner", "name"), PHASES, ids=[name for _, name in PHASES])
def test_no_phase_of_decoding_goes_on_after_a_failure_of_the_device(
    folder: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    engine = DecodingEngine(models.load(folder), TokenTable.read(folder), 1 << 30)
    sizes = (40, 41, 300, 35, 36, 290)
    ids = [range(300 + place, 300 + place + size) for place, size in enumerate(sizes)]  # none begins as another does
    prompts = [Prompt(tuple(one), 40, Sampling(temperature=one.start % 2 * 0.7)) for one in ids]
    for id, prompt in enumerate(prompts[:3]):
        engine.submit(id, prompt, credit=100)
    for _ in range(6):
        engine.step()
    if name == "prefill_rows":  # beside rows that decode it depends on the clock how much is read in a pass
        for id in range(3):
            engine.cancel(id)
    monkeypatch.setattr(owner, name, fault)
    for id in range(3, 6):
        engine.submit(id, prompts[id], credit=100)
    with pytest.raises(RuntimeError, match="METAL"):
        for report in until_idle(engine):
            assert not isinstance(report, job.Failed)


@pytest.mark.parametrize("name", ["read", "decode", "join"])
def test_no_phase_of_speech_goes_on_after_a_failure_of_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    make_qwen3_tts(tmp_path)
    engine = VoiceEngine(voices.load(tmp_path), 1 << 30)
    written = UtteranceWriter.read(tmp_path, 4096).write(UtteranceRequest("tts", "hello", max_seconds=2.0, seed=3))
    engine.submit(1, written, credit=100)
    monkeypatch.setattr(VoiceEngine, f"_{name}", fault)
    with pytest.raises(RuntimeError, match="METAL"):
        list(until_idle(engine))


@pytest.mark.parametrize("name", ["listen", "begin", "decode"])
def test_no_phase_of_transcription_goes_on_after_a_failure_of_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    make_whisper(tmp_path)
    desk = Desk(tmp_path)
    desk.submit(1, request())
    monkeypatch.setattr(whisper.WhisperModel, name, fault)
    with pytest.raises(RuntimeError, match="METAL"):
        desk.run()


def test_the_encoder_of_recordings_does_not_go_on_after_a_failure_of_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_qwen3_asr(tmp_path)
    engine = DecodingEngine(hearing.load(tmp_path), TokenTable.read(tmp_path, shown={TEXT}), 1 << 30, PieceAnswer)
    engine.submit(1, PieceWriter.read(tmp_path, 4096).write(PieceRequest("asr", sound(3.0, 1))), credit=100)
    monkeypatch.setattr(SoundTower, "__call__", fault)
    with pytest.raises(RuntimeError, match="METAL"):
        list(until_idle(engine))


FAULTY = """
import pathlib
from engines.runner import main as runner
from engines.runner.generation.model import Model
from engines.runner.loaders import Loaders

def failing_once(name, owner=Model):
    real, flag = getattr(owner, name), pathlib.Path({folder!r}) / name
    def pass_(*given):
        if flag.exists():
            flag.unlink()
            raise RuntimeError("[METAL] Command buffer execution failed: Internal Error")
        return real(*given)
    setattr(owner, name, pass_)

failing_once("prefill")
failing_once("decode")
failing_once("engine", Loaders)
runner.main()
"""


REQUEST = ChatRequest("toy", (Message("user", "hi"),), Sampling(temperature=0.0, max_tokens=300))


async def text(runtime: Runtime, at_first: Callable[[], None] | None = None) -> str:
    said = ""
    async with aclosing(runtime.run(REQUEST)) as events:
        async for event in events:
            said += getattr(event, "text", "")
            if said and at_first is not None:
                at_first()
                at_first = None
    return said


def pids(runtime: Runtime) -> set[int]:
    return {worker.process.pid for worker in runtime._supervisor.runners}


def opened(folder: Path, flags: Path) -> Runtime:
    options = RuntimeOptions(
        PoolLimits(4 << 30, 4, 4, -1.0, 30.0), runner=("-P", "-c", FAULTY.format(folder=str(flags)))
    )
    return Runtime(Catalog(Roots(configured=(folder.parent,)), {}), options)


def test_a_load_in_which_the_device_failed_is_tried_again_by_another_runner(folder: Path, tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), opened(folder, tmp_path) as runtime:
            (tmp_path / "engine").touch()
            assert await text(runtime)
            assert not (tmp_path / "engine").exists()

    asyncio.run(main())


@promise("mac:device:no-wrong-text")
def test_a_runner_whose_device_failed_is_ended_and_what_had_said_nothing_is_answered(
    folder: Path, tmp_path: Path
) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), opened(folder, tmp_path) as runtime:
            expected, first = await text(runtime), pids(runtime)
            (tmp_path / "prefill").touch()
            assert await text(runtime) == expected
            second = pids(runtime)
            with pytest.raises(RunnerDied, match="device failed"):
                await text(runtime, at_first=(tmp_path / "decode").touch)
            assert await text(runtime) == expected
            assert first.isdisjoint(second)
            assert second.isdisjoint(pids(runtime))

    asyncio.run(main())
