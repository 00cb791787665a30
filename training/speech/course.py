"""A training of so many minutes, whatever the machine: the rate and the diet follow the clock, not a count of steps.

Batches are made beside it by threads. The step isn't compiled: on a GPU no first one came within 45 s.
"""

import argparse
import importlib
import math
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from training.speech import shards
from training.speech.batches import Corpus, Diet, batches

nn: Any = importlib.import_module("mlx.nn")  # half typed

MOST_LINES = 30
REFRESH_EVERY = 5.0  # seconds
WARM_UP, LAST_RATE = 0.04, 0.02
SMOOTHING = 0.98
BETAS, DECAY, CLIP = (0.9, 0.98), 0.02, 1.0


@dataclass(frozen=True)
class Plan:
    """`diets` until a share of the time; `keep_every` seconds what is learnt is kept."""

    minutes: float
    rate: float
    diets: tuple[tuple[float, Diet], ...]
    keep_every: float = 120.0
    threads: int = 2

    @property
    def tell_every(self) -> float:
        """Seconds."""
        return min(10.0, 60 * self.minutes / MOST_LINES)

    def diet(self, share: float) -> Diet:
        return next(diet for until, diet in self.diets if share <= until)

    def rate_at(self, share: float) -> float:
        """It rises, then falls as a cosine."""
        if share < WARM_UP:
            return self.rate * (share + 1e-3) / WARM_UP
        fallen = 0.5 + 0.5 * math.cos(math.pi * min(1.0, (share - WARM_UP) / (1 - WARM_UP)))
        return self.rate * (LAST_RATE + (1 - LAST_RATE) * fallen)


@dataclass(frozen=True)
class CourseArguments:
    """What the command line says."""

    corpus: Path
    out: Path
    minutes: float
    size: int | None


def wanted(description: str, arguments: list[str]) -> CourseArguments:
    """Exits where they are wrong."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--size", type=int, help="of a batch")
    found = CourseArguments(**vars(parser.parse_args(arguments)))
    if found.minutes <= 0:
        parser.error("minutes: more than 0")
    return found


class TrainingTask(Protocol):
    """What is to be learnt. `learner` is an `nn.Module`."""

    learner: Any

    def assemble(self, group: list[Any], chunks: int, seed: int) -> Any: ...

    def loss(self, batch: Any) -> Sequence[mx.array]:
        """The whole, then its parts; of what was assembled, as MLX's arrays."""

    def try_out(self) -> str: ...

    def keep(self) -> None: ...


@dataclass
class _Told:
    """Of the time since the last line; `seen` are smoothed losses."""

    began: float
    steps: int = 0
    recordings: int = 0
    waited: float = 0.0
    seen: list[float] = field(default_factory=list)

    def add(self, losses: list[float], rows: int, waited: float) -> None:
        self.steps += 1
        self.recordings += rows
        self.waited += waited
        old = self.seen or losses
        self.seen = [SMOOTHING * a + (1 - SMOOTHING) * b for a, b in zip(old, losses, strict=True)]


class Descent:
    """AdamW over all weights as one vector, of which each is a part: a hundred small steps would cost more than one."""

    def __init__(self, learner: Any) -> None:
        flat = _vector(learner.trainable_parameters())
        self.state = {"weights": flat, "mean": mx.zeros_like(flat), "square": mx.zeros_like(flat)}
        mx.eval(self.state)

    def step(self, learner: Any, gradients: Any, rate: float) -> None:
        """In place, both here and there."""
        state, gradient = self.state, _vector(gradients)
        gradient = gradient * mx.minimum(1.0, CLIP / (mx.linalg.norm(gradient) + 1e-6))
        state["mean"] = BETAS[0] * state["mean"] + (1 - BETAS[0]) * gradient
        state["square"] = BETAS[1] * state["square"] + (1 - BETAS[1]) * gradient * gradient
        change = state["mean"] / (mx.sqrt(state["square"]) + 1e-8) + DECAY * state["weights"]
        state["weights"] = state["weights"] - rate * change
        named, start = [], 0
        for name, old in cast(list[tuple[str, mx.array]], tree_flatten(learner.trainable_parameters())):
            named.append((name, state["weights"][start : start + old.size].reshape(old.shape)))
            start += old.size
        learner.update(tree_unflatten(named))


def _vector(tree: Any) -> mx.array:
    return mx.concatenate([one.reshape(-1) for _, one in cast(list[tuple[str, mx.array]], tree_flatten(tree))])


class Course:
    """Runs a `Plan`."""

    def __init__(self, subject: TrainingTask, corpus: Corpus, plan: Plan, rows: Callable[[int], int]) -> None:
        self._subject, self._corpus, self._plan, self._rows = subject, corpus, plan, rows
        self._began = time.monotonic()
        self._ready: queue.Queue[tuple[int, Any]] = queue.Queue(6)
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._descent = Descent(subject.learner)

    def _step(self, batch: Any) -> list[mx.array]:
        learner = self._subject.learner
        (_, *parts), gradients = nn.value_and_grad(learner, self._subject.loss)(batch)
        self._descent.step(learner, gradients, self._plan.rate_at(self.share))
        return list(parts)

    @property
    def share(self) -> float:
        """Of the time that is over."""
        return (time.monotonic() - self._began) / (60 * self._plan.minutes)

    def run(self) -> None:
        """To the end of its time; keeps what is learnt now and then, and last."""
        threads = [threading.Thread(target=self._make, args=(seed,), daemon=True) for seed in range(self._plan.threads)]
        for thread in (*threads, threading.Thread(target=self._refresh, daemon=True)):
            thread.start()
        try:
            self._learn()
        finally:
            self._over.set()
        self._subject.keep()
        self._say(f"end: {self._subject.try_out()}")

    def _learn(self) -> None:
        told, kept, steps = _Told(time.monotonic()), time.monotonic(), 0
        pending: list[mx.array] = []
        while self.share < 1:
            before = time.monotonic()
            rows, batch = self._next()
            waited = time.monotonic() - before
            losses = self._step(tree_map(mx.array, batch))
            mx.async_eval(losses, self._subject.learner.parameters(), self._descent.state)  # type: ignore[no-untyped-call]
            if pending:  # of the step before, so that the next one is under way meanwhile
                told.add([one.item() for one in pending], rows, waited)  # type: ignore[misc]
            pending, steps = losses, steps + 1
            now = time.monotonic()
            if now - told.began > self._plan.tell_every:
                self._tell(told, steps, now)
                told = _Told(now, seen=told.seen)
            if now - kept > self._plan.keep_every:
                self._subject.keep()
                self._say(f"{steps} steps: {self._subject.try_out()}")
                kept = time.monotonic()

    def _tell(self, told: _Told, steps: int, now: float) -> None:
        passed = now - told.began
        losses = " ".join(f"{loss:.3f}" for loss in told.seen)
        self._say(
            f"{100 * self.share:3.0f} % step {steps}, loss {losses}, {told.steps / passed:.1f} steps/s, "
            f"{told.recordings / passed:.0f} recordings/s of {self._corpus.count}, "
            f"{100 * told.waited / passed:.0f} % waiting, {mx.get_peak_memory() / 1e9:.2f} GB"
        )

    def _say(self, text: str) -> None:
        sys.stdout.write(f"{time.monotonic() - self._began:5.0f} s {text}\n")
        sys.stdout.flush()

    def _next(self) -> tuple[int, Any]:
        while True:
            if self._failure:
                raise self._failure
            try:
                return self._ready.get(timeout=1)
            except queue.Empty:
                continue

    def _make(self, seed: int) -> None:
        try:
            every = batches(
                self._corpus, self._subject.assemble, lambda: self._plan.diet(min(1.0, self.share)), self._rows, seed
            )
            self._hand_over(every)
        except BaseException as failure:
            self._failure = failure

    def _hand_over(self, every: Iterator[tuple[int, Any]]) -> None:
        for made in every:
            while not self._over.is_set():
                try:
                    self._ready.put(made, timeout=1)
                    break
                except queue.Full:
                    continue
            if self._over.is_set():
                return

    def _refresh(self) -> None:
        while not self._over.wait(REFRESH_EVERY):
            self._corpus.refresh()


def wait_for(folder: Path) -> Corpus:
    """With its test and at least one shard; another process may be making them."""
    corpus = Corpus(folder)
    corpus.refresh()
    if not corpus.count:
        sys.stdout.write(f"Waiting for recordings: `python -m training.speech.corpus {folder}` makes them.\n")
        sys.stdout.flush()
    while not corpus.count or not shards.is_whole(folder, "test"):
        time.sleep(0.5)
        corpus.refresh()
    return corpus


def on_a_gpu() -> bool:
    """If there is one, it is made the default."""
    found = mx.is_available(mx.gpu)
    mx.set_default_device(mx.gpu if found else mx.cpu)
    mx.set_cache_limit((16 if found else 1) << 30)
    return found
