"""The whole bench, in small."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_one_command_measures_all_and_ends_with_one_document() -> None:
    command = [sys.executable, "-m", "bench", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Read this first:")
    document = json.loads(done.stdout.splitlines()[-1])
    assert {"batch", "batch-256", "mlx-local", "mlx-lm.server"} <= document["medians"]["levels/4k/1/rate"].keys()
    parts = {key.split("/")[0] for key in document["medians"]}
    assert parts >= {"levels", "arrival", "prefix", "conversation", "start", "requests", "audio", "cost", "limit"}
    assert {"mlx-audio", "mlx-local"} <= document["medians"]["audio/qwen3-tts/4/first_sound"].keys()
    # Levels, vocabularies and shapes that a smoke run leaves out.
    absent = [one["goal"] for one in document["verdicts"] if one["verdict"] == "not measured"]
    assert all("4 streams" in goal or "16 streams" in goal or "large" in goal for goal in absent), absent
