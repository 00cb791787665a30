"""What becomes of a request before the model hears it, and what is refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engines.runner.mel import log_mel
from engines.runner.whisper.prepare import WhisperPreparer
from engines.runner.whisper.vocabulary import Vocabulary
from engines.types.audio import PieceRequest
from engines.types.errors import CheckpointUnusable, InvalidRequest, UnsupportedField
from tests.engines.runner.whisper.desk import Desk, request, sound


@pytest.fixture(scope="module")
def preparer(multilingual: Path) -> WhisperPreparer:
    return WhisperPreparer.read(multilingual)


def test_features_are_those_of_the_sound_followed_by_silence(preparer: WhisperPreparer) -> None:
    piece = preparer.write(request(2.345))
    followed = np.concatenate([sound(2.345), np.zeros(16_000, np.float32)])
    assert piece.seconds == 2.345
    assert np.array_equal(piece.features, log_mel(followed, 80)[:234])


def test_the_fields_of_a_request_reach_the_piece(preparer: WhisperPreparer) -> None:
    asked = request(language="yue", temperature=0.4, repetition_penalty=1.2, translate=True, words=True, trace="t")
    piece = preparer.write(asked)
    assert (piece.language, piece.translate, piece.words, piece.trace) == ("yue", True, True, "t")
    assert (piece.temperatures, piece.repetition_penalty) == ((0.4, 0.6, 0.8, 1.0), 1.2)
    assert (piece.prompt_tokens, piece.max_tokens, preparer.context_length) == (3, 224, 448)


def test_a_context_is_cut_from_the_left_to_half_of_what_the_model_reads(preparer: WhisperPreparer) -> None:
    short, long = (preparer.write(request(context=text)).context for text in ("Ada ", "many words, " * 300 + "Ada"))
    assert 0 < len(short) < 10 and len(long) == 223 and long[-len(short) :][1:] == short[1:]
    assert preparer.write(request(context=" \n")).context == ()


@pytest.mark.parametrize(
    "text", ["<|endoftext|>", "<|startofprev|> <|0.00|>", "a<|translate|>b", "<|zh|>", "<|30.00|>"]
)
def test_control_tokens_in_a_users_context_are_plain_text(preparer: WhisperPreparer, desk: Desk, text: str) -> None:
    context = preparer.write(request(context=text)).context
    assert all(token < desk.vocabulary.marks.end for token in context)
    table = desk.vocabulary.table
    assert b"".join(map(table.bytes_of, context)).decode() == f" {text}"


def test_the_same_sound_is_drawn_the_same_way_and_another_isnt(preparer: WhisperPreparer) -> None:
    seeds = [preparer.write(request(1.0, voice)).seed for voice in (1, 1, 2)]
    assert seeds[0] == seeds[1] != seeds[2]


@pytest.mark.parametrize(
    ("asked", "param", "says"),
    [
        (request(language="xx"), "language", "am, ar,"),
        (request(language="English"), "language", "en, es"),
        (request(temperature=-0.1), "temperature", "0 to 2"),
        (request(temperature=float("nan")), "temperature", "0 to 2"),
        (request(repetition_penalty=0.0), "repetition_penalty", "above 0"),
        (PieceRequest("m", b""), "file", "no sound"),
        (PieceRequest("m", b"1234567"), "file", "32 bits"),
        (PieceRequest("m", np.zeros(480_001, np.float32).tobytes()), "file", "30 seconds"),
        (PieceRequest("m", np.full(16_000, np.nan, np.float32).tobytes()), "file", "no numbers"),
        (PieceRequest("m", np.full(16_000, np.inf, np.float32).tobytes()), "file", "no numbers"),
    ],
)
def test_what_cannot_be_done_is_refused(preparer: WhisperPreparer, asked: PieceRequest, param: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as caught:
        preparer.write(asked)
    assert caught.value.param == param


def test_a_text_that_was_begun_is_refused_and_not_begun_again(preparer: WhisperPreparer) -> None:
    with pytest.raises(UnsupportedField, match="from its beginning"):
        preparer.write(PieceRequest("m", sound(1.0).tobytes(), beginning="And so"))


def test_a_model_for_english_takes_nothing_else_and_does_not_translate(english: Path) -> None:
    preparer = WhisperPreparer.read(english)
    assert preparer.write(request(language="en")).features.shape[1] == 128
    for asked in (request(language="zh"), request(translate=True)):
        with pytest.raises(InvalidRequest, match="English alone"):
            preparer.write(asked)


def test_languages_are_those_of_the_vocabulary(multilingual: Path, english: Path) -> None:
    known = Vocabulary.read(multilingual, 51866).languages
    assert len(known) == 100 and list(known)[:2] == ["en", "zh"] and "yue" in known
    assert Vocabulary.read(english, 2000).languages == {}


def test_signs_that_are_no_speech_and_ids_without_a_token_are_never_said(desk: Desk) -> None:
    speakable = desk.vocabulary.speakable()
    assert len(speakable) == desk.vocabulary.marks.end
    for sign in ("[", "(", " -", "♪"):
        assert not speakable[desk.vocabulary.encode(sign)[0]]
    for text in ("a", ",", ".", "-", "'", " "):
        assert speakable[desk.vocabulary.encode(text)[0]]
    assert not any(speakable[2000:])


def without(folder: Path, target: Path, unnamed: Callable[[str], bool]) -> None:
    """A tokenizer that doesn't name some tokens."""
    data = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    data["model"]["vocab"] = {name: id for name, id in data["model"]["vocab"].items() if not unnamed(name)}
    data["added_tokens"] = [token for token in data["added_tokens"] if not unnamed(token["content"])]
    (target / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")


def test_times_need_no_names(english: Path, tmp_path: Path) -> None:
    without(english, tmp_path, lambda name: re.fullmatch(r"<\|[0-9.]+\|>", name) is not None)
    assert Vocabulary.read(tmp_path, 2000).marks == Vocabulary.read(english, 2000).marks
    with pytest.raises(CheckpointUnusable, match="doesn't number"):
        Vocabulary.read(tmp_path, 1000)


@pytest.mark.parametrize("mark", ["<|notimestamps|>", "<|startofprev|>"])
def test_a_tokenizer_that_is_not_whispers_is_refused(english: Path, tmp_path: Path, mark: str) -> None:
    without(english, tmp_path, lambda name: name == mark)
    with pytest.raises(CheckpointUnusable, match=r"tokenizer\.json"):
        Vocabulary.read(tmp_path, 2000)
