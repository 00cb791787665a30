"""Recordings made by code are what the splitter takes for speech."""

import wave
from pathlib import Path

import numpy as np

from bench import sounds


def test_the_same_seed_gives_the_same_sound_and_another_another() -> None:
    assert np.array_equal(sounds.speech(2.0, 1), sounds.speech(2.0, 1))
    assert not np.array_equal(sounds.speech(2.0, 1), sounds.speech(2.0, 2))


def test_speech_is_as_long_as_asked_is_not_clipped_and_varies_in_level() -> None:
    sound = sounds.speech(5.0, 3)
    assert len(sound) == 5 * sounds.RATE
    assert 0.05 < np.abs(sound).max() < 1
    levels = np.abs(sound).reshape(-1, sounds.RATE // 20).mean(axis=1)
    assert levels.max() > 5 * levels.min()


def test_a_written_recording_reads_back(tmp_path: Path) -> None:
    sound = sounds.speech(1.0, 4)
    sounds.write(tmp_path / "a.wav", sound)
    assert np.abs(sounds.read(tmp_path / "a.wav") - sound).max() < 1e-4


def test_a_sparse_recording_is_silent_between_its_bursts(tmp_path: Path) -> None:
    sounds.write_sparse(tmp_path / "long.wav", 30.0, 3, 2.0)
    with wave.open(str(tmp_path / "long.wav"), "rb") as file:
        data = np.frombuffer(file.readframes(file.getnframes()), np.uint8)
    assert len(data) == 30 * sounds.THIN_RATE
    loud = (data != sounds.SILENCE).reshape(30, -1).mean(axis=1) > 0.5
    assert loud.tolist() == ([True] * 2 + [False] * 8) * 3
