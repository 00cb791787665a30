import json
from pathlib import Path
from typing import Any

import pytest

from demo.voice_checkpoints import make_qwen3_tts, make_qwen3_tts_base
from engines.models.voices import OPENAI_VOICES, Speakers, read_speakers, voices_of
from engines.types.errors import CheckpointUnusable, InvalidRequest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("voice")
    make_qwen3_tts(made)
    return made


@pytest.fixture(scope="module")
def speakers(folder: Path) -> Speakers:
    return read_speakers(folder)


def test_the_voices_of_a_model_are_those_of_its_configuration(folder: Path) -> None:
    voices = voices_of(folder)
    assert [voice.name for voice in voices][:3] == ["serena", "vivian", "uncle_fu"]
    assert {voice.name: voice.languages for voice in voices}["ryan"] == ("en",)


def test_a_model_that_imitates_has_no_voices(tmp_path: Path) -> None:
    make_qwen3_tts_base(tmp_path)
    assert voices_of(tmp_path) == ()


@pytest.mark.parametrize(("asked", "speaker"), [("", "serena"), ("Vivian", "vivian"), (" UNCLE_FU ", "uncle_fu")])
def test_a_voice_is_found_in_any_case_and_the_first_is_the_default(
    speakers: Speakers, asked: str, speaker: str
) -> None:
    assert speakers.named(asked) == speaker


def test_openais_voices_all_mean_one_also_in_a_model_with_others(speakers: Speakers) -> None:
    assert len(OPENAI_VOICES) == 13
    assert all(speakers.named(name) == like for name, like in OPENAI_VOICES.items())
    others = Speakers("custom_voice", True, {"one": 1, "two": 2}, {}, {})
    assert [others.named(name) for name in ("alloy", "ash", "ballad")] == ["one", "two", "one"]


def test_an_unknown_voice_is_told_with_the_list(speakers: Speakers) -> None:
    with pytest.raises(InvalidRequest, match="nobody.*serena, vivian.*alloy") as caught:
        speakers.named("nobody")
    assert caught.value.param == "voice"


LANGUAGE_IDS: list[tuple[str, str, str | None]] = [
    ("", "ryan", None),
    ("en", "ryan", "english"),
    ("zh", "serena", "chinese"),
    ("zh", "eric", "sichuan_dialect"),
    ("", "dylan", "beijing_dialect"),
    ("en", "eric", "english"),
    ("sichuan_dialect", "ryan", "sichuan_dialect"),
]


@pytest.mark.parametrize(("code", "speaker", "name"), LANGUAGE_IDS)
def test_codes_are_the_models_languages_and_speakers_of_a_dialect_speak_it(
    speakers: Speakers, code: str, speaker: str, name: str | None
) -> None:
    assert speakers.language_id(code, speaker) == (speakers.languages[name] if name else None)


@pytest.mark.parametrize("code", ["yue", "sw", "klingon"])
def test_a_language_that_the_model_does_not_speak_is_told_with_the_list(speakers: Speakers, code: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{code}.*zh, en, de") as caught:
        speakers.language_id(code)
    assert caught.value.param == "language"


@pytest.mark.parametrize(
    "config",
    [{}, {"talker_config": {}, "tts_model_type": "custom_voice"}, {"talker_config": {}, "tts_model_type": "x"}, [1]],
    ids=str,
)
def test_a_configuration_of_something_else_is_unusable(tmp_path: Path, config: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointUnusable, match=r"config\.json"):
        read_speakers(tmp_path)
