"""A training lasts as long as is wanted, keeps what it learnt, and ends when something fails."""

import importlib
import random
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
import pytest

from training.speech import shards
from training.speech.batches import CHUNKS, MOST_CHUNKS, Corpus, Diet, batches, joined
from training.speech.course import Course, Descent, Plan, wait_for, wanted
from training.speech.examples import Array, RecordedUtterance
from training.speech.forward import CHUNK
from training.speech.shards import CorpusUtterance
from training.speech.train import DIETS, rows_of

nn: Any = importlib.import_module("mlx.nn")  # half typed
optim: Any = importlib.import_module("mlx.optimizers")
BINS = 4


def utterances() -> list[CorpusUtterance]:
    """Of all kinds and languages, as long as they would be; one is too long."""
    made = []
    for language, word in (("English", "yes"), ("Chinese", "一"), ("Cantonese", "一")):
        for count in (1, 2, 3, 5, 9):
            starts = [40 * place for place in range(count + 1)]
            made += [CorpusUtterance(language, [word] * count, 40 * count + extra, starts) for extra in (20, 90)]
    return [
        *made,
        CorpusUtterance("None", [], 250),
        CorpusUtterance("English", ["yes"], MOST_CHUNKS * CHUNK + 1, [0, 9]),
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = [(one, np.full((one.size, BINS), len(one.words), np.float16)) for one in utterances()]
    shards.write(tmp_path, "training-0", made)
    shards.write(tmp_path, "test", made[:1])
    return tmp_path


class Batch(NamedTuple):
    means: Array
    words: Array


class Subject:
    """Learns how many words there are from the mean of the features, which is that."""

    def __init__(self) -> None:
        self.learner = nn.Linear(1, 1)
        self.kept: list[float] = []

    def assemble(self, group: list[RecordedUtterance], chunks: int, seed: int) -> Batch:
        means = np.array([[one.features.astype(np.float32).mean()] for one in group])
        return Batch(means, np.array([[len(one.utterance.words)] for one in group], np.float32))

    def loss(self, batch: Batch) -> tuple[mx.array, mx.array]:
        errors: mx.array = mx.square(self.learner(batch.means) - batch.words).mean()
        return errors, errors

    def try_out(self) -> str:
        return f"tried after keeping {len(self.kept)} times"

    def keep(self) -> None:
        self.kept.append(float(self.learner.weight.item()))


def test_a_training_ends_in_its_time_with_something_learnt_and_kept(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subject, plan = Subject(), Plan(0.01, 0.05, DIETS, keep_every=0.2)
    before = float(subject.loss(Batch(mx.array([[3.0]]), mx.array([[3.0]])))[0])
    Course(subject, wait_for(folder), plan, lambda _: 4).run()
    after = float(subject.loss(Batch(mx.array([[3.0]]), mx.array([[3.0]])))[0])
    assert after < 0.5 * before
    lines = capsys.readouterr().out.splitlines()
    assert len(subject.kept) >= 3 and subject.kept[-1] == float(subject.learner.weight.item())
    assert lines[-1].endswith(f"end: tried after keeping {len(subject.kept)} times")
    assert any("recordings/s of 31" in line for line in lines)


def test_a_failure_while_batches_are_made_ends_the_training(folder: Path) -> None:
    class Failing(Subject):
        def assemble(self, group: list[RecordedUtterance], chunks: int, seed: int) -> Batch:
            raise ValueError("such a batch")

    subject = Failing()
    with pytest.raises(ValueError, match="such a batch"):
        Course(subject, wait_for(folder), Plan(10, 0.05, DIETS), lambda _: 4).run()
    assert not subject.kept


def test_a_descent_is_adamw_with_clipped_gradients() -> None:
    ours, usual = nn.Linear(3, 2), nn.Linear(3, 2)
    usual.update(ours.parameters())
    x, wanted_y = mx.random.normal((8, 3), key=mx.random.key(1)), 10 * mx.random.normal((8, 2), key=mx.random.key(2))

    def error(model: Any) -> Any:
        return nn.value_and_grad(model, lambda: mx.square(model(x) - wanted_y).mean())()[1]

    descent, optimizer = Descent(ours), optim.AdamW(0.1, [0.9, 0.98], 1e-8, 0.02)
    for _ in range(5):
        descent.step(ours, error(ours), 0.1)
        optimizer.update(usual, optim.clip_grad_norm(error(usual), 1.0)[0])
    assert mx.allclose(ours.weight, usual.weight, atol=1e-5) and mx.allclose(ours.bias, usual.bias, atol=1e-5)


def test_the_rate_rises_and_falls_and_the_diet_follows_the_clock() -> None:
    plan = Plan(1, 2e-3, DIETS)
    rates = [plan.rate_at(share / 100) for share in range(101)]
    assert rates.index(max(rates)) == 4 and rates[4] == pytest.approx(2e-3)
    assert rates[:5] == sorted(rates[:5]) and rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] == pytest.approx(4e-5)
    assert [plan.diet(share) for share in (0.0, 0.08, 0.3, 1.0)] == [DIETS[place][1] for place in (0, 0, 1, 2)]


def test_all_but_the_longest_recordings_are_learnt_from_and_none_twice(folder: Path) -> None:
    corpus = wait_for(folder)
    assert corpus.count == 31
    shards.write(folder, "training-1", [(CorpusUtterance("None", [], 100), np.zeros((100, BINS), np.float16))])
    for _ in range(2):
        corpus.refresh()
        assert corpus.count == 32
    assert [sum(map(len, pools.values())) for pools in corpus.pools] == [6, 6, 12, 6, 2]


def test_batches_hold_recordings_of_about_one_length_in_the_shares_that_are_wanted(folder: Path) -> None:
    diet, seen = Diet((0.5, 0.0, 0.3, 0.0, 0.2), 0.0), 0
    made = batches(wait_for(folder), lambda group, chunks, seed: (group, chunks), lambda: diet, rows_of(300), 1)
    counts = []
    for _, (rows, (group, chunks)) in zip(range(300), made, strict=False):
        assert rows == len(group) == rows_of(300)(chunks)
        fewer = max((n for n in CHUNKS if n < chunks), default=0)
        assert all(fewer * CHUNK < len(one.features) <= chunks * CHUNK for one in group)
        counts += [len(one.utterance.words) for one in group]
        seen += rows
    assert set(counts) == {0, 1, 3, 5}
    assert 0.4 < counts.count(1) / seen < 0.6


def test_recordings_are_joined_with_their_times() -> None:
    draw = random.Random(1)
    features = [np.full((length, BINS), length, np.float16) for length in (30, 20)]
    one = RecordedUtterance(CorpusUtterance("English", ["yes"], 30, [5, 25]), features[0])
    other = RecordedUtterance(CorpusUtterance("English", ["no", "go"], 20, [2, 9, 18]), features[1])
    made = joined([one, other])
    assert made.utterance == CorpusUtterance("English", ["yes", "no", "go"], 50, [5, 32, 39, 48])
    assert made.features[:, 0].tolist() == [30] * 30 + [20] * 20
    corpus = Corpus(Path(), [{"English": [one], "Chinese": [one]}, {"English": [other]}, {"English": [other]}])
    assert all(one.utterance.language == "English" for one in corpus.several(draw, 4))


def test_the_command_line_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = wanted("Trains.", [str(tmp_path), "out", "0.5", "--size", "9"])
    assert (found.corpus, found.out, found.minutes, found.size) == (tmp_path, Path("out"), 0.5, 9)
    for arguments in (["corpus", "out"], ["corpus", "out", "0"], ["corpus", "out", "1", "--compiled"]):
        with pytest.raises(SystemExit):
            wanted("Trains.", arguments)
    assert "minutes" in capsys.readouterr().err
