"""The commands that make the demo's speech checkpoints, one after another, at tiny scale."""

import ctypes.util
import subprocess
import sys
from pathlib import Path

import pytest

from training.speech import shards

ROOT = Path(__file__).parents[2]


def run(name: str, *arguments: str | Path) -> str:
    command = [sys.executable, "-m", f"training.speech.{name}", *map(str, arguments)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.skipif(ctypes.util.find_library("espeak-ng") is None, reason="needs espeak-ng")
def test_a_corpus_is_spoken_learnt_from_and_measured(tmp_path: Path) -> None:
    corpus, asr, whisper = (tmp_path / name for name in ("corpus", "asr", "whisper"))
    run("corpus", corpus, "1")
    test = [utterance for utterance, _ in shards.read(corpus, "test")]
    training = [utterance for utterance, _ in shards.read(corpus, "training-0")]
    assert (len(test), len(training)) == (640, 1000)
    assert all(
        len(one.starts) == len(one.words) + 1 and one.starts == sorted(one.starts) for one in training if one.words
    )
    assert "end: Can" in run("train", corpus, asr, "0.1")
    figures = run("measure", corpus, asr, "80").splitlines()
    assert any(line.startswith("English, 1 to 4 words") for line in figures)
    assert sorted(path.name for path in asr.iterdir()) == ["qwen3-asr.safetensors", "qwen3-asr.tokenizer.json"]
    assert "end: Can" in run("train_whisper", corpus, whisper, "0.1")
    assert sorted(path.name for path in whisper.iterdir()) == ["whisper.safetensors", "whisper.tokenizer.json"]
    assert any(line.startswith("nobody speaks") for line in run("measure_whisper", corpus, whisper, "80").splitlines())
