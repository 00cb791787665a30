"""mlx-lm's `BatchGenerator` in a process of its own: jobs as JSON lines on stdin, outcomes on stdout.

Started as `python -P -m bench.libraries.mlx_lm_batch FOLDER`. No HTTP, no text: token ids in and out, so the
least that a server over mlx-lm can cost. With `keep`, the cache of the last answer is trimmed to what the next prompt
shares with it.
"""

import itertools
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import mlx.core as mx
import msgspec
from mlx_lm.generate import BatchGenerator
from mlx_lm.models.cache import trim_prompt_cache
from mlx_lm.utils import load_model

from bench.libraries.device import device
from bench.libraries.jobs import AskDevice, Bandwidth, Command, Generate, Measured, Piece
from bench.streams import Stream

REPEATS = 5


class Batch:
    def __init__(self, folder: Path) -> None:
        self._model, _ = load_model(folder, strict=True)
        mx.eval(self._model.parameters())
        self._kept: tuple[list[Any], list[int]] | None = None

    def generate(self, job: Generate) -> list[Stream]:
        sizes = {"prefill_step_size": job.prefill_step_size, "prefill_batch_size": job.prefill_batch_size}
        options: dict[str, Any] = {name: size for name, size in sizes.items() if size is not None}
        generator: Any = BatchGenerator(self._model, **options)
        waiting = list(enumerate(job.pieces))
        places: dict[int, int] = {}
        submitted: dict[int, float] = {}
        arrivals: list[list[float]] = [[] for _ in job.pieces]
        made: list[list[int]] = [[] for _ in job.pieces]
        while waiting or len(places) > sum(len(m) == p.max_tokens for m, p in zip(made, job.pieces, strict=True)):
            due = [(place, piece) for place, piece in waiting if len(made[0]) >= piece.after]
            waiting = [one for one in waiting if one not in due]
            for place, piece in due:
                submitted[place] = time.monotonic()
                places[self._insert(generator, piece, job.keep)] = place
            _, responses = generator.next()
            now = time.monotonic()
            for response in responses:
                arrivals[places[response.uid]].append(now)
                made[places[response.uid]].append(int(response.token))
                if response.finish_reason is not None and job.keep:
                    self._kept = response.prompt_cache, list(response.all_tokens)
        generator.close()
        return [
            Stream(submitted[place], tuple(arrivals[place]), len(piece.ids), len(made[place]), ids=tuple(made[place]))
            for place, piece in enumerate(job.pieces)
        ]

    def _insert(self, generator: Any, piece: Piece, keep: bool) -> int:
        kept, self._kept = (self._kept, None) if keep else (None, self._kept)
        if kept is None:
            return int(generator.insert([list(piece.ids)], max_tokens=[piece.max_tokens])[0])
        cache, tokens = kept
        shared = common(tokens, piece.ids[:-1])
        trim_prompt_cache(cache, cache[0].offset - shared)
        rest = [list(piece.ids[shared:])]
        before = [list(piece.ids[:shared])]
        uids = generator.insert(rest, max_tokens=[piece.max_tokens], caches=[cache], all_tokens=before)
        return int(uids[0])


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences share at their beginning."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def bandwidth(megabytes: int) -> dict[str, float]:
    """Bytes per second, the best of some tries, of a sum, of a copy (counted both ways) and of a matrix × vector."""
    count = megabytes * (1 << 20) // 4
    array = mx.random.uniform(shape=(count // 1024, 1024))
    vector = mx.random.uniform(shape=(1024, 1))
    mx.eval(array, vector)
    works: dict[str, tuple[Callable[[], mx.array], int]] = {
        "sum": (lambda: mx.sum(array), 1),
        "copy": (lambda: array + 1.0, 2),
        "matvec": (lambda: array @ vector, 1),
    }
    best: dict[str, float] = {}
    for name, (work, passes) in works.items():
        for _ in range(REPEATS):
            began = time.perf_counter()
            mx.eval(work())
            speed = passes * array.nbytes / (time.perf_counter() - began)
            best[name] = max(best.get(name, 0.0), speed)
    return best


def serve(folder: Path, source: BinaryIO, sink: BinaryIO) -> None:
    """Until the end of `source`."""
    batch = Batch(folder)
    for line in source:
        command = msgspec.json.decode(line, type=Command)
        match command:
            case Generate():
                answer: object = batch.generate(command)
            case Bandwidth():
                answer = Measured(bandwidth(command.megabytes))
            case AskDevice():
                answer = device()
        sink.write(msgspec.json.encode(answer) + b"\n")
        sink.flush()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print belongs to the log
    serve(Path(sys.argv[1]), sys.stdin.buffer, answers)
