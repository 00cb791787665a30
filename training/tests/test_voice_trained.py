"""What the trained voice toy says, by the server's own engine, as the trained Qwen3-ASR toy writes it down."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlx_audio.tts.utils import load_model

from demo.checkpoints import WEIGHTS
from demo.voice_checkpoints import trained_qwen3_tts
from engines.synthesis.duration_check import judge
from engines.types.audio import VOICE_RATE
from training.speech.measure import hear, load
from training.voice.measure import SpokenSamples, VoiceCheckpoint, heard


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("voice")
    trained_qwen3_tts(made)
    return made


@pytest.fixture(scope="module")
def voice(folder: Path) -> VoiceCheckpoint:
    return VoiceCheckpoint(folder)


@pytest.fixture(scope="module")
def listener() -> Any:
    return load(WEIGHTS)


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("Hello, this is the local recording.", "ryan", "hello this is the local recording"),
        ("会议三点开始。", "vivian", "会议三点开始"),
    ],
)
def test_a_sentence_is_written_down_again_as_it_was_given(
    voice: VoiceCheckpoint, listener: Any, text: str, name: str, words: str
) -> None:
    """As the checkpoint draws it, not at temperature 0."""
    said = voice.say(text, name)
    assert said.ended
    assert hear(listener, heard(said.samples))[0] == words


@pytest.mark.parametrize("text", ["Good morning to you all! How are you today?", "今天天气很好，阳光明媚。"])
def test_of_what_it_does_not_know_something_of_a_fitting_length_is_said(voice: VoiceCheckpoint, text: str) -> None:
    said = voice.say(text)
    assert verdict(text, said) == "whole"


def verdict(text: str, said: SpokenSamples) -> str:
    loud = float(np.abs(said.samples).max())
    return judge(text, len(said.samples) / VOICE_RATE, loud, capped=not said.ended, instructed=False)


def test_the_librarys_own_generation_says_it_too(folder: Path, listener: Any) -> None:
    model = load_model(folder, strict=True)
    (made,) = model.generate("Turn on the light please.", voice="aiden", temperature=0.0)
    assert hear(listener, heard(np.array(made.audio)))[0] == "turn on the light please"


def test_every_name_is_the_one_speaker(folder: Path) -> None:
    speakers = json.loads((folder / "config.json").read_bytes())["talker_config"]["spk_id"]
    assert len(speakers) == 9 and set(speakers.values()) == {speakers["ryan"]}


def test_the_weights_are_few(folder: Path) -> None:
    assert (WEIGHTS / "qwen3-tts.safetensors").stat().st_size < 8_000_000
