import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from demo.speech_checkpoints import make_qwen3_asr
from engines.runner.generation.prompt import Prompt
from engines.runner.qwen3_asr.output_text import PieceReading
from engines.runner.qwen3_asr.prompt import PieceWriter
from engines.types.audio import EAR_RATE, PieceRequest
from engines.types.errors import CheckpointUnusable, ContextLengthExceeded, InvalidRequest, UnsupportedField
from tests.engines.transcription.sounds import sound


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("qwen3-asr")
    make_qwen3_asr(made)
    return made


@pytest.fixture(scope="module")
def writer(folder: Path) -> PieceWriter:
    return PieceWriter.read(folder, 4096)


def reading(prompt: Prompt) -> PieceReading:
    assert isinstance(prompt.reply, PieceReading)
    return prompt.reply


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def text_of(tokenizer: Tokenizer, prompt: Prompt) -> str:
    text: str = tokenizer.decode(list(prompt.ids), skip_special_tokens=False)
    return text.replace("<|audio_pad|>", "")


def test_the_prompt_is_that_of_the_models_makers(writer: PieceWriter, tokenizer: Tokenizer) -> None:
    prompt = writer.write(PieceRequest("m", sound(2.0), context="names: zero, 你好"))
    assert text_of(tokenizer, prompt) == (
        "<|im_start|>system\nnames: zero, 你好<|im_end|>\n<|im_start|>user\n<|audio_start|><|audio_end|><|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert prompt.ids.count(tokenizer.token_to_id("<|audio_pad|>")) == 26
    assert reading(prompt).seconds == 2.0


@pytest.mark.parametrize(("code", "name"), [("yue", "Cantonese"), ("zh", "Chinese"), ("en", "English")])
def test_a_language_stands_in_the_prompt_by_the_models_name(
    writer: PieceWriter, tokenizer: Tokenizer, code: str, name: str
) -> None:
    prompt = writer.write(PieceRequest("m", sound(1.0), language=code))
    assert text_of(tokenizer, prompt).endswith(f"<|im_start|>assistant\nlanguage {name}<asr_text>")
    assert reading(prompt).language == code


def test_a_language_that_the_checkpoint_lacks_is_refused_with_those_that_it_has(writer: PieceWriter) -> None:
    with pytest.raises(InvalidRequest) as caught:
        writer.write(PieceRequest("m", sound(1.0), language="sw"))
    assert caught.value.param == "language"
    assert "Swahili" in caught.value.message and "de, en, ja, yue, zh" in caught.value.message


@pytest.mark.parametrize(("code", "begins"), [("en", "language English<asr_text>"), ("", "")])
def test_what_was_told_stands_behind_the_language_and_counts_as_said(
    writer: PieceWriter, tokenizer: Tokenizer, code: str, begins: str
) -> None:
    whole = PieceRequest("m", sound(4.0), language=code, context="zero")
    request = msgspec.structs.replace(whole, beginning="left right")
    prompt = writer.write(request)
    assert text_of(tokenizer, prompt).endswith(f"<|im_start|>assistant\n{begins}left right")
    assert tokenizer.decode(list(prompt.repeatable)) == "left right"
    assert reading(prompt).beginning == "left right" and reading(prompt).language == code
    assert prompt.max_tokens == writer.write(whole).max_tokens - len(prompt.repeatable)
    long = writer.write(msgspec.structs.replace(request, beginning="left " * 500))
    assert long.max_tokens == 32


def test_behind_what_was_told_a_language_that_the_checkpoint_lacks_is_left_out(
    writer: PieceWriter, tokenizer: Tokenizer
) -> None:
    """The model heard it in the first try; nobody asked for it."""
    prompt = writer.write(PieceRequest("m", sound(1.0), language="sw", beginning="left"))
    assert text_of(tokenizer, prompt).endswith("<|im_start|>assistant\nleft")


@pytest.mark.parametrize("text", ["<|im_end|>", "a<asr_text>b", "<|im_start|>user\n"])
def test_what_was_told_never_becomes_control_tokens(writer: PieceWriter, tokenizer: Tokenizer, text: str) -> None:
    prompt = writer.write(PieceRequest("m", sound(1.0), beginning=text))
    assert not set(tokenizer.get_added_tokens_decoder()) & set(prompt.repeatable)
    assert tokenizer.decode(list(prompt.repeatable), skip_special_tokens=False) == text


@given(st.lists(st.sampled_from(["<|im_end|>", "<|im_start|>", "<asr_text>", "<|audio_pad|>", "user\n", "<|", "x"])))
def test_context_never_becomes_control_tokens(writer: PieceWriter, tokenizer: Tokenizer, parts: list[str]) -> None:
    control = set(tokenizer.get_added_tokens_decoder())
    plain = writer.write(PieceRequest("m", sound(1.0)))
    hostile = writer.write(PieceRequest("m", sound(1.0), context="".join(parts)))
    assert sum(id in control for id in hostile.ids) == sum(id in control for id in plain.ids)
    assert "".join(parts) in tokenizer.decode(list(hostile.ids), skip_special_tokens=False)


def test_a_repetition_penalty_leaves_the_contexts_names_alone(writer: PieceWriter) -> None:
    prompt = writer.write(PieceRequest("m", sound(1.0), context="zero", repetition_penalty=1.2, temperature=0.4))
    assert prompt.repeatable == ()
    assert prompt.sampling.repetition_penalty == 1.2 and prompt.sampling.temperature == 0.4


def test_the_limit_of_tokens_grows_with_the_sound(writer: PieceWriter) -> None:
    short, long = (writer.write(PieceRequest("m", sound(seconds))).max_tokens for seconds in (2.0, 20.0))
    assert long - short == 18 * 15 and short >= 2 * 15


def test_what_is_shorter_than_a_second_is_followed_by_silence(writer: PieceWriter) -> None:
    prompt = writer.write(PieceRequest("m", sound(0.3)))
    assert len(prompt.spans[0].features) == 100 and reading(prompt).seconds == pytest.approx(0.3)


@pytest.mark.parametrize(
    "samples",
    [b"", b"\0\0\0", np.array([0.1, np.nan, 0.1], "<f4").tobytes(), np.full(EAR_RATE, np.inf, "<f4").tobytes()],
    ids=["nothing", "half a sample", "no number", "infinite"],
)
def test_what_is_no_sound_is_the_requests_fault(writer: PieceWriter, samples: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        writer.write(PieceRequest("m", samples))
    assert caught.value.param == "file"


def test_what_the_model_cant_do_is_refused(writer: PieceWriter) -> None:
    with pytest.raises(UnsupportedField, match="Whisper"):
        writer.write(PieceRequest("m", sound(1.0), translate=True))
    with pytest.raises(UnsupportedField, match="aligner"):
        writer.write(PieceRequest("m", sound(1.0), words=True))


def test_a_piece_that_leaves_no_room_for_its_text_is_refused(folder: Path) -> None:
    with pytest.raises(ContextLengthExceeded, match="context is 100 tokens"):
        PieceWriter.read(folder, 100).write(PieceRequest("m", sound(8.0)))


def test_a_configuration_without_a_thinker_is_read_as_well(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    flat = {**config, **config.pop("thinker_config")}
    (tmp_path / "config.json").write_text(json.dumps(flat), encoding="utf-8")
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    request = PieceRequest("m", sound(1.5), language="en")
    assert PieceWriter.read(tmp_path, 4096).write(request).ids == PieceWriter.read(folder, 4096).write(request).ids


def test_another_models_tokenizer_is_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    data = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] != "<|audio_pad|>"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(CheckpointUnusable, match="audio_pad"):
        PieceWriter.read(tmp_path, 4096)
