"""The log-mel spectrogram: equal to that of libraries, for any length of sound."""

from typing import Any

import numpy as np
import pytest
from transformers import WhisperFeatureExtractor

from engines.runner import mel


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    """Tones that glide, in noise, with a pause."""
    time = np.arange(int(seconds * mel.RATE)) / mel.RATE
    noise = np.random.default_rng(seed).normal(size=len(time)) * 0.01
    tones = 0.4 * np.sin(2 * np.pi * (200 + 300 * time) * time) * (np.sin(3 * time) > -0.5)
    return (tones + noise).astype(np.float32)


@pytest.mark.parametrize("bins", [80, 128])
@pytest.mark.parametrize("seconds", [0.5, 3.21, 30.0, 31.007])
def test_it_equals_the_one_that_models_were_trained_with(seconds: float, bins: int) -> None:
    samples = sound(seconds)
    extract: Any = WhisperFeatureExtractor(feature_size=bins)  # type: ignore[no-untyped-call]
    theirs = extract(samples, sampling_rate=mel.RATE, return_tensors="np", padding=False, truncation=False)
    ours = mel.log_mel(samples, bins)
    assert ours.dtype == np.float32 and ours.shape == (len(samples) // 160, bins)
    assert np.abs(ours - theirs["input_features"][0].T[: len(ours)]).max() < 1e-5


@pytest.mark.parametrize("samples", [160, 161, 320, 1000])
def test_very_short_sounds_have_frames_too(samples: int) -> None:
    spectrum = mel.log_mel(sound(0.1)[:samples], 80)
    assert spectrum.shape == (samples // 160, 80) and np.isfinite(spectrum).all()


def test_less_than_a_frame_has_none() -> None:
    assert mel.log_mel(np.zeros(0, np.float32), 80).shape == mel.log_mel(np.zeros(159, np.float32), 80).shape == (0, 80)


def test_silence_is_as_quiet_as_can_be_said() -> None:
    assert np.allclose(mel.log_mel(np.zeros(1600, np.float32), 80), (-10 + 4) / 4)


def test_a_long_sound_costs_little_more_memory_than_itself_and_has_no_seams() -> None:
    samples = sound(65.0)
    whole = mel.log_mel(samples, 80)
    middle = mel.log_mel(samples[160 * 2000 : 160 * 4000], 80)  # its blocks begin elsewhere
    floor = np.maximum(middle, whole.max() - 2)
    assert np.allclose(np.maximum(whole[2002:3998], whole.max() - 2), floor[2:-2], atol=1e-5)
