"""Checkpoints with random weights, made once, and sounds."""

from pathlib import Path

import pytest

from demo.whisper_checkpoint import make_whisper
from tests.engines.runner.whisper.desk import Desk


@pytest.fixture(scope="session")
def multilingual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whisper")
    make_whisper(folder)
    return folder


@pytest.fixture(scope="session")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whisper-en")
    make_whisper(folder, multilingual=False, bins=128, seed=8)
    return folder


@pytest.fixture(scope="session")
def desk(multilingual: Path) -> Desk:
    return Desk(multilingual)


@pytest.fixture(scope="session")
def small(english: Path) -> Desk:
    """Of few tokens: quick where the language doesn't matter."""
    return Desk(english)
