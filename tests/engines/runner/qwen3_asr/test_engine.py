"""Pieces of recordings in the batch loop, over a genuine Qwen3-ASR in miniature with random weights."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec
import numpy as np
import pytest
from mlx_audio.stt.utils import load_model

from demo.speech_checkpoints import ADDED, make_qwen3_asr
from engines.ipc import job, runner_protocol
from engines.models import checkpoint
from engines.models.config import eos_ids
from engines.runner.device_lock import DeviceLock
from engines.runner.generation.content import ContentSpan
from engines.runner.generation.engine import DecodingEngine
from engines.runner.generation.kv.blocks import BLOCK
from engines.runner.generation.model import Embed
from engines.runner.generation.prompt import Prompt
from engines.runner.loaders import Loaders
from engines.runner.qwen3_asr import engine as qwen3_engine
from engines.runner.qwen3_asr import model as qwen3_model
from engines.runner.qwen3_asr.output_markup import TEXT
from engines.runner.qwen3_asr.output_text import PieceAnswer
from engines.runner.qwen3_asr.prompt import PieceWriter
from engines.runner.tokenization.detokenize import TokenTable
from engines.types.audio import PieceDone, PieceRequest
from engines.types.chat import Delta
from tests.engines.transcription.sounds import sound

ROOM = 1 << 30
# Less than a second, one, several, a window of the encoder, a rest too short to be encoded alone, several windows.
SECONDS = (0.4, 1.3, 3.0, 8.0, 8.6, 9.37, 20.0)
Make = Callable[[int], DecodingEngine]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("qwen3-asr")
    make_qwen3_asr(made)
    return made


@pytest.fixture(scope="module")
def library(folder: Path) -> Any:
    return load_model(folder, strict=True)


@pytest.fixture(scope="module")
def make_engine(folder: Path) -> Make:
    model, table = qwen3_model.load(folder), TokenTable.read(folder, shown={TEXT})
    return lambda room: DecodingEngine(model, table, room, PieceAnswer)


@pytest.fixture(scope="module")
def make_frank(folder: Path) -> Make:
    """An engine that shows all added tokens, as the library does: of ours only one has a text."""
    model, table = qwen3_model.load(folder), TokenTable.read(folder, shown={*ADDED})
    return lambda room: DecodingEngine(model, table, room, PieceAnswer)


@pytest.fixture(scope="module")
def writer(folder: Path) -> PieceWriter:
    return PieceWriter.read(folder, 4096)


def run(engine: DecodingEngine, texts: dict[int, str] | None = None) -> tuple[dict[int, str], dict[int, PieceDone]]:
    """Step to the end; each piece's text, in which no row fails, and its last event."""
    texts = {} if texts is None else texts
    ends: dict[int, PieceDone] = {}
    while not engine.idle:
        for report in engine.step():
            note(report, texts, ends)
    return texts, ends


def note(
    report: runner_protocol.Said | runner_protocol.Finished | job.Failed,
    texts: dict[int, str],
    ends: dict[int, PieceDone],
) -> None:
    if isinstance(report, runner_protocol.Said):
        assert isinstance(report.delta, Delta)
        texts[report.id] = texts.get(report.id, "") + report.delta.text
    elif isinstance(report, runner_protocol.Finished):
        assert isinstance(report.end, PieceDone)
        ends[report.id] = report.end
    else:
        raise AssertionError(report)


def alone(engine: DecodingEngine, prompt: Prompt) -> tuple[str, PieceDone]:
    engine.submit(1, prompt, 10_000)
    texts, ends = run(engine)
    return texts.get(1, ""), ends[1]


def prompts(writer: PieceWriter, seconds: Iterable[float] = SECONDS, language: str = "") -> list[Prompt]:
    requests = [PieceRequest("m", sound(length, seed), language) for seed, length in enumerate(seconds)]
    return [writer.write(request) for request in requests]


@pytest.mark.parametrize("language", ["", "en"])
def test_pieces_that_run_together_have_the_text_of_the_librarys_single_generation(
    make_frank: Make, writer: PieceWriter, library: Any, language: str
) -> None:
    engine = make_frank(ROOM)
    texts: dict[int, str] = {}
    ends: dict[int, PieceDone] = {}
    pieces = prompts(writer, language=language)
    for id, prompt in enumerate(pieces):
        engine.submit(id, prompt, 10_000)
        for report in engine.step():
            note(report, texts, ends)
    more = run(engine, texts)[1]
    names = {"": None, "en": "English"}
    for id, (seconds, prompt) in enumerate(zip(SECONDS, pieces, strict=True)):
        samples = np.frombuffer(sound(seconds, id), "<f4")
        single = library.generate(samples, max_tokens=prompt.max_tokens, language=names[language])
        assert texts.get(id, "") == single.text.replace(TEXT, "")
        done = {**ends, **more}[id]
        assert done.usage.prompt_tokens == single.prompt_tokens
        assert done.finish_reason == ("length" if single.generation_tokens == prompt.max_tokens else "stop")
    assert len({*texts.values()}) == len(SECONDS)


def test_a_prompt_with_context_has_the_librarys_embeddings(
    make_engine: Make, writer: PieceWriter, folder: Path, library: Any
) -> None:
    model = qwen3_model.load(folder)
    for seed, seconds in enumerate(SECONDS):
        prompt = writer.write(PieceRequest("m", sound(seconds, seed), context="left, right"))
        frames = prompt.spans[0].features
        heard = library.get_audio_features(mx.array(frames.T[None]), mx.ones((1, len(frames)), mx.int32))
        whole = library._build_inputs_embeds(mx.array([prompt.ids]), heard)[0]
        embed = model.embed(prompt.spans)
        parts = [embed(prompt.ids[place : place + 37], place) for place in range(0, len(prompt.ids), 37)]
        assert mx.allclose(mx.concatenate(parts), whole, atol=1e-5).item()


def test_each_piece_alone_has_the_text_that_it_has_in_company(make_engine: Make, writer: PieceWriter) -> None:
    engine = make_engine(ROOM)
    pieces = prompts(writer)
    for id, prompt in enumerate(pieces):
        engine.submit(id, prompt, 10_000)
    texts, ends = run(engine)
    for id, prompt in enumerate(pieces):
        text, done = alone(make_engine(ROOM), prompt)
        assert texts.get(id, "") == text
        usage = msgspec.structs.replace(ends[id].usage, cached_tokens=done.usage.cached_tokens)
        together = msgspec.structs.replace(ends[id], timings=done.timings, usage=usage, segments=())
        assert together == msgspec.structs.replace(done, segments=())


def test_the_last_event_has_one_segment_as_long_as_the_piece(make_engine: Make, writer: PieceWriter) -> None:
    text, done = alone(make_engine(ROOM), writer.write(PieceRequest("m", sound(3.0), "yue")))
    (segment,) = done.segments
    assert (segment.start, segment.end, segment.text) == (0.0, 3.0, text)
    assert done.language == "yue"
    assert segment.avg_logprob is not None and -10 < segment.avg_logprob < 0


def test_context_changes_what_is_heard(make_engine: Make, writer: PieceWriter) -> None:
    plain, named = (
        alone(make_engine(ROOM), writer.write(PieceRequest("m", sound(3.0), "en", context=context)))[0]
        for context in ("", "zero one two")
    )
    assert plain != named


def test_temperature_and_repetition_penalty_act(make_engine: Make, writer: PieceWriter) -> None:
    request = PieceRequest("m", sound(20.0), "en")
    plain = alone(make_engine(ROOM), writer.write(request))[0]
    for fields in ({"temperature": 1.0}, {"repetition_penalty": 2.0}):
        changed = writer.write(msgspec.structs.replace(request, **fields))
        text, done = alone(make_engine(ROOM), changed)
        assert text != plain
        assert all(segment.temperature == request.temperature for segment in done.segments) or "temperature" in fields


def test_a_piece_that_meets_its_limit_says_so(make_engine: Make, writer: PieceWriter) -> None:
    prompt = msgspec.structs.replace(prompts(writer, [9.37])[0], max_tokens=5)
    done = alone(make_engine(ROOM), prompt)[1]
    assert done.finish_reason == "length" and done.usage.completion_tokens == 5


def test_a_row_without_credit_pauses_and_goes_on_with_the_same_text(make_engine: Make, writer: PieceWriter) -> None:
    first, second = prompts(writer, [8.6, 9.37])
    expected = alone(make_engine(ROOM), first)[0]
    engine = make_engine(ROOM)
    engine.submit(1, first, 3)
    engine.submit(2, second, 10_000)
    texts, ends = run(engine)
    assert 1 not in ends and 2 in ends
    engine.grant(1, 10_000)
    assert run(engine, texts)[0][1] == expected


class Counting(qwen3_model.HearingModel):
    """Knows how often a row has begun."""

    begun = 0

    def embed(self, spans: Sequence[ContentSpan]) -> Embed:
        self.begun += 1
        return super().embed(spans)


def test_rows_that_give_way_are_heard_again_with_the_same_text(
    folder: Path, make_engine: Make, writer: PieceWriter
) -> None:
    pieces = prompts(writer)
    expected = [alone(make_engine(ROOM), prompt)[0] for prompt in pieces]
    model = Counting(qwen3_model.load_module(folder), eos_ids(folder), b"")
    engine = DecodingEngine(model, TokenTable.read(folder, shown={TEXT}), ROOM, PieceAnswer)
    for id, prompt in enumerate(pieces):
        engine.submit(id, prompt, 10_000)
    texts: dict[int, str] = {}
    while len(engine._running) < 3:
        for report in engine.step():
            note(report, texts, {})
    engine.resize(1024 * 768)  # two rows of 256 positions have room, and none beside one of more
    run(engine, texts)
    assert [texts.get(id, "") for id in range(len(pieces))] == expected
    assert model.begun > len(pieces) and engine.stored_bytes <= 1024 * 768


def test_a_cancelled_piece_is_forgotten_at_any_time(make_engine: Make, writer: PieceWriter) -> None:
    kept, dropped = prompts(writer, [3.0, 20.0])
    expected = alone(make_engine(ROOM), kept)[0]
    for steps in (0, 1, 3, 12):
        engine = make_engine(ROOM)
        engine.submit(1, kept, 10_000)
        engine.submit(2, dropped, 10_000)
        texts: dict[int, str] = {}
        ends: dict[int, PieceDone] = {}
        for _ in range(steps):
            for report in engine.step():
                note(report, texts, ends)
        engine.cancel(2)
        before = texts.get(2, "")
        run(engine, texts)
        assert texts[1] == expected and texts.get(2, "") == before and engine.idle


def test_a_voice_message_isnt_held_up_by_long_pieces_that_came_before(folder: Path, writer: PieceWriter) -> None:
    model = qwen3_model.HearingModel(qwen3_model.load_module(folder), frozenset(), b"")
    engine = DecodingEngine(model, TokenTable.read(folder, shown={TEXT}), ROOM, PieceAnswer)
    for id, prompt in enumerate(prompts(writer, [60.0] * 4)):
        engine.submit(id, prompt, 10_000)
    engine.step()
    message = prompts(writer, [1.0])[0]
    engine.submit(9, message, 10_000)
    ended: list[int] = []
    steps = 0
    while not ended:
        steps += 1
        ended += [report.id for report in engine.step() if isinstance(report, runner_protocol.Finished)]
    assert ended == [9] and steps < message.max_tokens + 5


def test_a_piece_that_cant_be_encoded_fails_alone(make_engine: Make, writer: PieceWriter) -> None:
    good, bad = prompts(writer, [3.0, 3.0])
    expected = alone(make_engine(ROOM), good)[0]
    [span] = bad.spans
    broken = msgspec.structs.replace(span, features=span.features[:, :32])
    engine = make_engine(ROOM)
    engine.submit(1, good, 10_000)
    engine.submit(2, msgspec.structs.replace(bad, spans=(broken,)), 10_000)
    texts: dict[int, str] = {}
    failed = []
    while not engine.idle:
        for report in engine.step():
            if isinstance(report, job.Failed):
                failed.append(report.id)
            elif isinstance(report, runner_protocol.Said):
                note(report, texts, {})
    assert failed == [2] and texts == {1: expected}


def test_no_piece_takes_over_what_was_computed_for_another_of_the_same_length(
    make_engine: Make, writer: PieceWriter
) -> None:
    engine = make_engine(ROOM)
    for seed in range(3):
        prompt = writer.write(PieceRequest("m", sound(9.0, seed), "en"))
        together = alone(engine, prompt)
        assert together[0] == alone(make_engine(ROOM), prompt)[0]
        assert together[1].usage.cached_tokens <= prompt.spans[0].begin


def test_the_same_sound_with_the_same_prompt_is_read_once_and_has_the_same_text(
    make_engine: Make, writer: PieceWriter
) -> None:
    engine = make_engine(ROOM)
    request = PieceRequest("m", sound(9.0), "en", context="left, right")
    first, again = (alone(engine, writer.write(request)) for _ in range(2))
    assert again[0] == first[0] and first[1].usage.cached_tokens == 0
    assert again[1].usage.cached_tokens >= again[1].usage.prompt_tokens - BLOCK - 1
    prompt = writer.write(msgspec.structs.replace(request, language="", repetition_penalty=1.2))
    retried = alone(engine, prompt)
    assert retried[0] == alone(make_engine(ROOM), prompt)[0]
    assert retried[1].usage.cached_tokens > prompt.spans[0].end - BLOCK


def test_a_checkpoint_in_8_bits_has_the_text_of_the_librarys(tmp_path: Path) -> None:
    make_qwen3_asr(tmp_path, quantised=True)
    prompt = PieceWriter.read(tmp_path, 4096).write(PieceRequest("m", sound(3.0), "en"))
    text, done = alone(qwen3_engine.load(tmp_path, ROOM), prompt)
    single = load_model(tmp_path, strict=True).generate(
        np.frombuffer(sound(3.0), "<f4"), max_tokens=prompt.max_tokens, language="English"
    )
    assert text == single.text.replace(TEXT, "") and done.usage.prompt_tokens == single.prompt_tokens


def test_a_missing_weight_is_an_error(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    weights: Any = mx.load(str(folder / "model.safetensors"))
    del weights["audio_tower.proj2.bias"]
    mx.save_safetensors(str(tmp_path / "model.safetensors"), weights)
    with pytest.raises(ValueError, match=r"audio_tower\.proj2\.bias"):
        qwen3_model.load(tmp_path)


def test_weights_in_torchs_layout_and_under_their_published_names_are_read(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    weights: Any = mx.load(str(folder / "model.safetensors"))
    published = {
        f"thinker.{name}": weight.transpose(0, 3, 1, 2) if weight.ndim == 4 else weight
        for name, weight in weights.items()
    }
    mx.save_safetensors(str(tmp_path / "model.safetensors"), published)
    prompt = PieceWriter.read(folder, 4096).write(PieceRequest("m", sound(2.0), "en"))
    texts = [alone(qwen3_engine.load(one, ROOM), prompt)[0] for one in (folder, tmp_path)]
    assert texts[0] == texts[1]


def test_a_folder_is_known_for_what_it_is(folder: Path) -> None:
    seen = checkpoint.inspect(folder)
    assert (seen.architecture, seen.capability, seen.missing) == ("qwen3_asr", "transcription", ())
    assert seen.kv_bytes_per_token == 2 * 2 * 2 * 32 * 4
    assert (
        seen.context_length
        == json.loads((folder / "config.json").read_text())["thinker_config"]["text_config"]["max_position_embeddings"]
    )
    prompt = Loaders().preparer(folder, 4096).write(PieceRequest("m", sound(1.0)))
    engine = Loaders().engine(folder, ROOM)
    engine.submit(1, prompt, 10_000)
    assert not engine.idle


def test_the_same_is_heard_where_turns_are_taken(folder: Path, make_engine: Make, writer: PieceWriter) -> None:
    prompts = [writer.write(PieceRequest("m", sound(seconds), language="en")) for seconds in (1.3, 9.37, 20.0, 20.0)]
    expected = [alone(make_engine(ROOM), prompt)[0] for prompt in prompts]
    with tempfile.TemporaryFile() as file:
        lock = DeviceLock(file.fileno())
        lock.share(True, yields=True)
        engine = qwen3_engine.load(folder, ROOM, lock)
        for id, prompt in enumerate(prompts):
            engine.submit(id, prompt, 1000)
        texts, _ = run(engine)
    assert [texts.get(id, "") for id in range(len(prompts))] == expected


def test_a_long_pass_is_cut_into_short_ones_where_turns_are_taken(folder: Path, writer: PieceWriter) -> None:
    class Counted(DeviceLock):
        count = 0

        def pause(self) -> float:
            self.count += 1
            return 1.0

        def left(self) -> float:
            return 0.0

    counted = Counted(-1)
    engine = qwen3_engine.load(folder, ROOM, counted)
    engine.submit(1, writer.write(PieceRequest("m", sound(20.0), language="en")), 1000)
    engine.step()
    assert counted.count == 0
    counted.share(True, yields=True)
    engine.submit(2, writer.write(PieceRequest("m", sound(20.0), language="en")), 1000)
    run(engine)
    assert counted.count > 50
