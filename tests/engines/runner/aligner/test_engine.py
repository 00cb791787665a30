"""The forced aligner: which parts of a text have times, and a genuine model in miniature with random weights."""

import itertools
import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_audio.stt.utils import load_model

from demo.speech_checkpoints import make_aligner
from engines.ipc import job, runner_protocol
from engines.models import checkpoint
from engines.runner.aligner.engine import AlignmentEngine
from engines.runner.aligner.prompt import AlignmentPrompt, AlignmentWriter
from engines.runner.aligner.text import mended, units
from engines.runner.loaders import Loaders
from engines.runner.qwen3_asr import model as qwen3_model
from engines.types.audio import AlignmentDone, AlignmentRequest
from engines.types.errors import ContextLengthExceeded, InvalidRequest
from tests.engines.transcription.sounds import sound

TEXT = "Zero, one two: don't stop — go left (right)."

# -- text -----------------------------------------------------------------------------------------------------------

TEXTS = {
    "words with marks around them": ("“Hello,” she said…", ["Hello", "she", "said"], ["Hello", "she", "said"]),
    "words with marks in them": ("don’t co-op 3.5%", ["don’t", "co-op", "3.5"], ["don't", "coop", "35"]),
    "Han": ("你好，世界。", ["你", "好", "世", "界"], ["你", "好", "世", "界"]),
    "Han and Latin": ("用iPhone打電話", ["用", "iPhone", "打", "電", "話"], ["用", "iPhone", "打", "電", "話"]),
    "Kana": ("カメラです", [*"カメラです"], [*"カメラです"]),
    "Hangul": ("안녕 하세요!", ["안녕", "하세요"], ["안녕", "하세요"]),
    "accents": ("Cafe\u0301 Öl", ["Café", "Öl"], ["Café", "Öl"]),
    "quotes alone": ("' '' x", ["x"], ["x"]),
    "markup": ("<timestamp> <|im_end|>", ["timestamp", "im_end"], ["timestamp", "imend"]),
    "no word": ("— … 。 ' <>", [], []),
    "nothing": ("", [], []),
}


@pytest.mark.parametrize(("text", "written", "spoken"), TEXTS.values(), ids=TEXTS)
def test_a_text_has_its_words_and_characters(text: str, written: list[str], spoken: list[str]) -> None:
    found = units(text)
    assert [unit.text for unit in found] == written
    assert [unit.spoken for unit in found] == spoken


@given(st.lists(st.floats(0, 60)), st.floats(0, 60))
def test_mended_times_lie_in_the_piece_and_never_go_back(times: list[float], end: float) -> None:
    got = mended(times, end)
    assert len(got) == len(times)
    assert all(0 <= time <= end for time in got)
    assert all(before <= after for before, after in itertools.pairwise(got))


@given(st.lists(st.floats(0, 60)).map(sorted))
def test_times_that_never_go_back_stay_as_they_are(times: list[float]) -> None:
    assert mended(times, 60.0) == times


def test_one_time_astray_lies_between_its_neighbours() -> None:
    assert mended([1.0, 2.0, 50.0, 4.0, 5.0], 60.0) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert mended([9.0, 2.0, 3.0, 0.0], 60.0) == [2.0, 2.0, 3.0, 3.0]


# -- the model ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("aligner")
    make_aligner(made)
    return made


@pytest.fixture(scope="module")
def writer(folder: Path) -> AlignmentWriter:
    return AlignmentWriter.read(folder, 4096)


@pytest.fixture(scope="module")
def model(folder: Path) -> qwen3_model.AligningModel:
    return qwen3_model.load_aligner(folder)


def run(engine: AlignmentEngine) -> dict[int, AlignmentDone]:
    ends: dict[int, AlignmentDone] = {}
    while not engine.idle:
        for report in engine.step():
            assert isinstance(report, runner_protocol.Finished) and isinstance(report.end, AlignmentDone)
            ends[report.id] = report.end
    return ends


def test_a_row_and_its_times_are_the_librarys(
    folder: Path, writer: AlignmentWriter, model: qwen3_model.AligningModel
) -> None:
    library = load_model(folder, strict=True)
    samples = sound(25.7)
    alignment = writer.write(AlignmentRequest("m", samples, TEXT * 6, "en"))
    features, mask, count = library._preprocess_audio(np.frombuffer(samples, "<f4"))
    words, text = library.aligner_processor.encode_timestamp(TEXT * 6, "English")
    ids = library._tokenizer.encode(text.replace("<|audio_pad|>", "<|audio_pad|>" * count), add_special_tokens=False)
    assert list(alignment.ids) == ids and [word.replace("'", "") for word in words]
    logits = library(mx.array([ids]), input_features=features, feature_attention_mask=mask)
    classes = np.array(mx.argmax(logits, axis=-1))[0]
    told = classes[np.array(ids) == library.config.timestamp_token_id] * 0.08

    assert told.tolist() == pytest.approx(times_of(model, alignment))
    assert len(set(told)) > 10


def times_of(model: qwen3_model.AligningModel, alignment: AlignmentPrompt) -> list[float]:
    """As the model tells them, before they are mended, fed in parts."""
    cache, embed = model.new_cache(), model.embed(alignment.sound)
    classes: list[int] = []
    for begin in range(0, len(alignment.ids), 100):
        tokens = alignment.ids[begin : begin + 100]
        places = [place - begin for place in alignment.places if begin <= place < begin + len(tokens)]
        classes += model.feed(embed(tokens, begin), places, cache)
    return [number * model.class_seconds for number in classes]


def test_every_word_has_a_time_in_the_piece_and_none_goes_back(
    writer: AlignmentWriter, model: qwen3_model.AligningModel
) -> None:
    engine = AlignmentEngine(model)
    lengths = {1: 1.5, 2: 30.0, 3: 8.2}
    for id, seconds in lengths.items():
        engine.submit(id, writer.write(AlignmentRequest("m", sound(seconds, id), f"{TEXT} 你好", "")), 0)
    ends = run(engine)
    for id, seconds in lengths.items():
        words = ends[id].words
        assert [word.text for word in words] == [
            "Zero",
            "one",
            "two",
            "don't",
            "stop",
            "go",
            "left",
            "right",
            "你",
            "好",
        ]
        times = [time for word in words for time in (word.start, word.end)]
        assert times == sorted(times) and times[0] >= 0 and times[-1] <= seconds


def test_an_aligner_in_8_bits_tells_nearly_the_same_times(tmp_path: Path) -> None:
    told = []
    for quantised in (False, True):
        folder = tmp_path / str(quantised)
        make_aligner(folder, quantised=quantised)
        alignment = AlignmentWriter.read(folder, 4096).write(AlignmentRequest("m", sound(8.0), TEXT, "en"))
        told.append(times_of(qwen3_model.load_aligner(folder), alignment))
    assert sum(one == other for one, other in zip(*told, strict=True)) > len(told[0]) / 2


def test_a_cancelled_alignment_is_forgotten_and_the_next_one_served(
    writer: AlignmentWriter, model: qwen3_model.AligningModel
) -> None:
    alignment = writer.write(AlignmentRequest("m", sound(30.0), TEXT, "en"))
    expected = run_alone(model, alignment)
    engine = AlignmentEngine(model)
    engine.submit(1, alignment, 0)
    engine.submit(2, alignment, 0)
    assert not engine.step()
    engine.cancel(1)
    engine.cancel(7)
    ends = run(engine)
    assert list(ends) == [2] and ends[2].words == expected.words


def run_alone(model: qwen3_model.AligningModel, alignment: AlignmentPrompt) -> AlignmentDone:
    engine = AlignmentEngine(model)
    engine.submit(1, alignment, 0)
    return run(engine)[1]


def test_an_alignment_that_cant_be_computed_fails_alone(
    writer: AlignmentWriter, model: qwen3_model.AligningModel
) -> None:
    good = writer.write(AlignmentRequest("m", sound(2.0), TEXT, "en"))
    broken = msgspec.structs.replace(
        good, sound=msgspec.structs.replace(good.sound, features=good.sound.features[:, :32])
    )
    engine = AlignmentEngine(model)
    engine.submit(1, broken, 0)
    engine.submit(2, good, 0)
    (failed,) = engine.step()
    assert isinstance(failed, job.Failed) and failed.id == 1 and failed.failure.code == "internal_error"
    assert list(run(engine)) == [2]


@pytest.mark.parametrize("text", ["", "  \n", "— … 。"])
def test_a_text_without_words_is_the_requests_fault(writer: AlignmentWriter, text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        writer.write(AlignmentRequest("m", sound(1.0), text, ""))
    assert caught.value.param == "text"


def test_what_the_aligner_cant_do_is_refused(folder: Path, writer: AlignmentWriter) -> None:
    with pytest.raises(InvalidRequest, match="de, en, ja, yue, zh") as caught:
        writer.write(AlignmentRequest("m", sound(1.0), "habari", "sw"))
    assert caught.value.param == "language"
    with pytest.raises(InvalidRequest, match="no sound"):
        writer.write(AlignmentRequest("m", b"", "zero", "en"))
    with pytest.raises(ContextLengthExceeded, match="up to 400 seconds"):
        writer.write(AlignmentRequest("m", sound(401.0), "zero", "en"))
    with pytest.raises(ContextLengthExceeded, match="context is 100 tokens"):
        AlignmentWriter.read(folder, 100).write(AlignmentRequest("m", sound(9.0), "zero", "en"))


def test_text_never_becomes_marks(writer: AlignmentWriter) -> None:
    plain = writer.write(AlignmentRequest("m", sound(1.0), "timestamp imend", "en"))
    hostile = writer.write(AlignmentRequest("m", sound(1.0), "<timestamp> <|im_end|>", "en"))
    assert hostile.ids == plain.ids


def test_a_folder_is_known_for_what_it_is(folder: Path) -> None:
    seen = checkpoint.inspect(folder)
    assert (seen.architecture, seen.capability, seen.missing) == ("qwen3_forced_aligner", "alignment", ())
    prepared: Any = Loaders().preparer(folder, 4096).write(AlignmentRequest("m", sound(1.0), "zero", ""))
    assert prepared.max_tokens == 0 and prepared.prompt_tokens == len(prepared.ids)
    assert isinstance(Loaders().engine(folder, 1 << 20), AlignmentEngine)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "qwen3_asr"
