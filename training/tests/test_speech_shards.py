"""A corpus may be read, and made again, while it is being made."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from training.speech import corpus, shards
from training.speech.shards import CorpusUtterance

ROOT = Path(__file__).parents[2]
# Reads whatever is there, again and again, and keeps all of it mapped; ends by a bus error where a file shrank.
READER = """
import sys
from pathlib import Path
from training.speech import shards
folder, kept = Path(sys.argv[1]), []
for _ in range(60):
    for path in folder.glob("*.json"):
        kept.append(list(shards.read(folder, path.stem)))
    for shard in kept[-200:]:
        assert [utterance.size for utterance, _ in shard] == [400, 401, 402]
        assert all((rows == utterance.size).all() and len(rows) == utterance.size for utterance, rows in shard)
print(len(kept))
"""


def made(sizes: range) -> list[tuple[CorpusUtterance, npt.NDArray[Any]]]:
    return [(CorpusUtterance("English", ["yes"], size), np.full((size, 16), size, np.float32)) for size in sizes]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert not shards.is_whole(tmp_path, "some")
    shards.write(tmp_path, "some", made(range(1, 4)))
    assert shards.is_whole(tmp_path, "some")
    read = list(shards.read(tmp_path, "some"))
    assert [utterance for utterance, _ in read] == [utterance for utterance, _ in made(range(1, 4))]
    assert [rows.tolist() for _, rows in read] == [rows.tolist() for _, rows in made(range(1, 4))]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["some.json", "some.npy"]


def test_who_reads_while_others_write_sees_whole_shards_only_and_keeps_them(tmp_path: Path) -> None:
    command = [sys.executable, "-c", READER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as reader:
        written = 0
        while reader.poll() is None:
            shards.write(tmp_path, f"training-{written % 5}", made(range(400, 403)))
            written += 1
        assert reader.stdout is not None
        count = reader.stdout.read()
    assert reader.returncode == 0
    assert written > 20 and int(count) > 60


def test_a_corpus_that_is_made_again_keeps_the_shards_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "recipe", lambda shard: [(None, shard)])
    monkeypatch.setattr(corpus, "testing", lambda: [(None, 1)])
    for _ in range(2):
        corpus.build_shard(tmp_path, 0)
        corpus.build_test(tmp_path)
        files = {path: path.stat().st_ino for path in tmp_path.iterdir()}
        monkeypatch.setattr(corpus, "trained_on", lambda *_: pytest.fail("it was made again"))
        monkeypatch.setattr(corpus, "tested_on", lambda *_: pytest.fail("it was made again"))
    corpus.build_shard(tmp_path, 0)
    assert len(files) == 4
    assert files == {path: path.stat().st_ino for path in tmp_path.iterdir()}
