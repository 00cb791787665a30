"""What the trained Whisper toy writes down, by the server's own engine: voices it never heard."""

from pathlib import Path

import numpy as np
import pytest

from demo.recordings import BundledRecording
from demo.whisper_checkpoint import trained_whisper
from engines.types.audio import PieceDone, PieceRequest
from tests.engines.runner.whisper.desk import Desk
from training.speech.errors import distance, words_of
from training.speech.samples import DEMO, TESTS
from training.speech.sound import RATE, Samples, noise
from training.tests.test_speech_trained import NAMES, kept, samples_of


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("whisper")
    trained_whisper(folder)
    return Desk(folder)


def heard(desk: Desk, samples: Samples) -> PieceDone:
    (done,) = desk.ask(PieceRequest("whisper", samples.astype("<f4").tobytes()))
    return done


def text(done: PieceDone) -> str:
    return "".join(segment.text for segment in done.segments).strip()


def in_the_demo(language: str) -> BundledRecording:
    (found,) = [one for one in kept(DEMO) if one.language == language]
    return found


@pytest.mark.parametrize("language", ["en", "zh"])
def test_two_of_the_demo_recordings_are_written_down_word_by_word(desk: Desk, language: str) -> None:
    recording = in_the_demo(language)
    done = heard(desk, samples_of(DEMO / recording.name))
    assert (text(done), done.language) == (recording.text, language)


def test_it_tells_when_the_last_word_is_over(desk: Desk) -> None:
    """Half a second before the end of the recording."""
    samples = samples_of(DEMO / in_the_demo("en").name)
    (segment,) = heard(desk, samples).segments
    assert segment.start == pytest.approx(0.5, abs=0.6)
    assert segment.end == pytest.approx(len(samples) / RATE - 0.5, abs=0.6)


def test_most_words_of_short_utterances_by_strange_voices_are_written_down(desk: Desk) -> None:
    wrong = total = 0
    for one in kept(TESTS):
        wanted = words_of(one.text, NAMES[one.language])
        total += len(wanted)
        wrong += distance(wanted, words_of(text(heard(desk, samples_of(TESTS / one.name))), NAMES[one.language]))
    assert wrong <= 0.25 * total


@pytest.mark.parametrize("level", [0.0, 0.001, 0.03])
def test_where_nobody_speaks_it_writes_nothing(desk: Desk, level: float) -> None:
    hiss = noise(np.random.default_rng(3), 2 * RATE) * np.float32(level)
    assert text(heard(desk, hiss)) == ""


def test_the_weights_are_few() -> None:
    weights = Path(__file__).parents[2] / "demo" / "weights"
    assert (weights / "whisper.safetensors").stat().st_size < 2_000_000
