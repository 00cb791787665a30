"""An answer of which the beginning was told already, by the trained toy: the rest is what it would have been."""

from itertools import accumulate
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest

from demo.recordings import BundledRecording, recordings
from demo.speech_checkpoints import trained_qwen3_asr
from engines.ipc import runner_protocol
from engines.runner.generation.engine import DecodingEngine
from engines.runner.qwen3_asr import engine as qwen3_engine
from engines.runner.qwen3_asr.prompt import PieceWriter
from engines.types.audio import EAR_RATE, PieceDone, PieceRequest, PieceText
from tests.promises import promise

SPOKEN = recordings()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("qwen3-asr")
    trained_qwen3_asr(made)
    return made


@pytest.fixture(scope="module")
def engine(folder: Path) -> DecodingEngine:
    return qwen3_engine.load(folder, 1 << 30)


def samples_of(path: Path) -> bytes:
    with av.open(str(path)) as container:
        assert container.streams.audio[0].rate == EAR_RATE
        frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    return (np.concatenate(frames).astype("<f4") / 32768).astype("<f4").tobytes()


def heard(
    folder: Path, engine: DecodingEngine, requests: list[PieceRequest]
) -> list[tuple[list[PieceText], PieceDone]]:
    """What the engine says to each of these, in one batch."""
    writer = PieceWriter.read(folder, 4096)
    for number, request in enumerate(requests):
        engine.submit(number, writer.write(request), credit=1000)
    texts: list[list[PieceText]] = [[] for _ in requests]
    ends: dict[int, PieceDone] = {}
    while not engine.idle:
        for report in engine.step():
            match report:
                case runner_protocol.Said(id, PieceText() as text):
                    texts[id].append(text)
                case runner_protocol.Finished(id, PieceDone() as done):
                    ends[id] = done
                case _:
                    raise AssertionError(report)
    return [(texts[number], ends[number]) for number in range(len(requests))]


@promise("audio:early")
@pytest.mark.parametrize("recording", SPOKEN, ids=lambda one: one.name)
def test_behind_any_beginning_comes_what_came_before(
    folder: Path, engine: DecodingEngine, recording: BundledRecording
) -> None:
    asked = PieceRequest("m", samples_of(recording.path))
    [(texts, done)] = heard(folder, engine, [asked])
    assert done.segments[0].text == "".join(text.text for text in texts) == recording.text
    assert {text.language for text in texts} == {done.language} == {recording.language}

    beginnings = list(accumulate(text.text for text in texts))
    further = [msgspec.structs.replace(asked, beginning=told, language=done.language) for told in beginnings]
    for told, (more, again) in zip(beginnings, heard(folder, engine, further), strict=True):
        assert again.segments[0].text == recording.text, told
        assert told + "".join(text.text for text in more) == recording.text
        assert (again.language, again.finish_reason) == (done.language, "stop")
