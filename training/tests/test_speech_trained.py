"""What the trained Qwen3-ASR toy writes down, by the library's own generation: voices it never heard."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest
from mlx_audio.stt.utils import load_model

from demo.recordings import BundledRecording
from demo.speech_checkpoints import trained_qwen3_asr
from training.speech.errors import words_of
from training.speech.measure import RecognitionFigure, hear
from training.speech.phrases import LANGUAGES
from training.speech.samples import DEMO, TESTS
from training.speech.sound import RATE, Samples, noise

NAMES = {language.code: language.name for language in LANGUAGES}


def kept(folder: Path) -> list[BundledRecording]:
    return msgspec.json.decode((folder / "recordings.json").read_bytes(), type=list[BundledRecording])


def samples_of(path: Path) -> Samples:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        assert stream.rate == RATE
        frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(stream)]
    return np.concatenate(frames).astype(np.float32) / np.float32(32768)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("qwen3-asr")
    trained_qwen3_asr(folder)
    return load_model(folder, strict=True)


def written(
    model: Any, folder: Path, change: Callable[[Samples], Samples] = lambda samples: samples
) -> RecognitionFigure:
    figure = RecognitionFigure("held out")
    for one in kept(folder):
        text, heard = hear(model, change(samples_of(folder / one.name)))
        language = NAMES[one.language]
        figure.add(words_of(one.text, language), words_of(text, language), language, heard)
    return figure


def test_the_demo_recordings_are_written_down_word_by_word_in_three_languages(model: Any) -> None:
    assert [hear(model, samples_of(DEMO / one.name)) for one in kept(DEMO)] == [
        (one.text, NAMES[one.language]) for one in kept(DEMO)
    ]


def test_of_short_utterances_by_strange_voices_no_more_than_6_words_of_100_are_wrong(model: Any) -> None:
    figure = written(model, TESTS)
    assert (figure.recordings, figure.told) == (12, 12)
    assert figure.errors <= 0.06 * figure.words, figure.wrong


def test_silence_before_and_after_changes_no_word(model: Any) -> None:
    figure = written(model, DEMO, lambda samples: np.pad(samples, (RATE, RATE * 3 // 2)))
    assert (figure.exact, figure.told) == (figure.recordings, figure.recordings), figure.wrong


def test_noise_30_decibels_below_changes_no_word(model: Any) -> None:
    def noisy(samples: Samples) -> Samples:
        level = float(np.sqrt(np.mean(samples**2)))
        return samples + noise(np.random.default_rng(1), len(samples)) * np.float32(level * 10 ** (-30 / 20))

    figure = written(model, DEMO, noisy)
    assert figure.exact == figure.recordings, figure.wrong


def test_a_language_that_is_told_changes_no_word(model: Any) -> None:
    assert [hear(model, samples_of(DEMO / one.name), NAMES[one.language])[0] for one in kept(DEMO)] == [
        one.text for one in kept(DEMO)
    ]


@pytest.mark.parametrize("level", [0.0, 0.001, 0.03])
def test_where_nobody_speaks_it_writes_nothing(model: Any, level: float) -> None:
    hiss = noise(np.random.default_rng(3), 2 * RATE) * np.float32(level)
    assert hear(model, hiss) == ("", "None")


def test_what_is_kept_is_small() -> None:
    sizes = [path.stat().st_size for path in DEMO.iterdir()]
    assert max(sizes) <= 100_000
    assert sum(path.stat().st_size for path in TESTS.iterdir()) <= 400_000
