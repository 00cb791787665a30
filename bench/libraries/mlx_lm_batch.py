"""mlx-lm's `BatchGenerator`, in process.

No HTTP, no text: token ids in and out, so the least that a server over mlx-lm can cost. With `keep`, the cache of the
last answer is trimmed to what the next prompt shares with it.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.generate import BatchGenerator
from mlx_lm.models.cache import trim_prompt_cache
from mlx_lm.utils import load_model

from bench.libraries.jobs import Bandwidth, Bandwidths, Generate, Job, TokenPrompt
from bench.streams import Stream

REPEATS = 5


class MlxLmBatch:
    def __init__(self, folder: Path) -> None:
        self._model, _ = load_model(folder, strict=True)
        mx.eval(self._model.parameters())
        self._kept: tuple[list[Any], list[int]] | None = None

    def do(self, job: Job) -> list[Stream] | Bandwidths:
        """Raises `TypeError` for a job of another library."""
        match job:
            case Generate():
                return self.generate(job)
            case Bandwidth():
                return Bandwidths(bandwidth(job.megabytes))
        raise TypeError(job)

    def generate(self, job: Generate) -> list[Stream]:
        sizes = {"prefill_step_size": job.prefill_step_size, "prefill_batch_size": job.prefill_batch_size}
        options: dict[str, Any] = {name: size for name, size in sizes.items() if size is not None}
        generator: Any = BatchGenerator(self._model, **options)
        waiting = list(enumerate(job.prompts))
        places: dict[int, int] = {}
        submitted: dict[int, float] = {}
        arrivals: list[list[float]] = [[] for _ in job.prompts]
        made: list[list[int]] = [[] for _ in job.prompts]
        while waiting or len(places) > sum(len(m) == p.max_tokens for m, p in zip(made, job.prompts, strict=True)):
            due = [(place, prompt) for place, prompt in waiting if len(made[0]) >= prompt.after]
            waiting = [one for one in waiting if one not in due]
            for place, prompt in due:
                submitted[place] = time.monotonic()
                places[self._insert(generator, prompt, job.keep)] = place
            _, responses = generator.next()
            now = time.monotonic()
            for response in responses:
                arrivals[places[response.uid]].append(now)
                made[places[response.uid]].append(int(response.token))
                if response.finish_reason is not None and job.keep:
                    self._kept = response.prompt_cache, list(response.all_tokens)
        generator.close()
        return [
            Stream(submitted[place], tuple(arrivals[place]), len(prompt.ids), len(made[place]), ids=tuple(made[place]))
            for place, prompt in enumerate(job.prompts)
        ]

    def _insert(self, generator: Any, prompt: TokenPrompt, keep: bool) -> int:
        kept, self._kept = (self._kept, None) if keep else (None, self._kept)
        if kept is None:
            return int(generator.insert([list(prompt.ids)], max_tokens=[prompt.max_tokens])[0])
        cache, tokens = kept
        shared = common(tokens, prompt.ids[:-1])
        trim_prompt_cache(cache, cache[0].offset - shared)
        rest = [list(prompt.ids[shared:])]
        before = [list(prompt.ids[:shared])]
        uids = generator.insert(rest, max_tokens=[prompt.max_tokens], caches=[cache], all_tokens=before)
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
