"""Prompts on their way into caches: where each begins, which are fed together, and the first token behind them."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

import mlx.core as mx
import numpy as np

from engines.ipc.device_fault import pass_on
from engines.runner.generation.emit import deliver, finished, said_by, waiting
from engines.runner.generation.kv.blocks import BLOCK
from engines.runner.generation.kv.caches import Cache
from engines.runner.generation.kv.kv_budget import KvBudget
from engines.runner.generation.model import Model
from engines.runner.generation.sampling.sampler import Choice, Choices, Padding, described
from engines.runner.generation.scheduler import plan, together
from engines.runner.generation.sequence import SequenceState
from engines.runner.generation.token_budget import TokenBudget
from engines.runner.row_engine import Report, guarded

log = logging.getLogger("decoding")


class Prefill:
    """`waiting` are the sequences that have something left to feed, interactive ones first, in order of arrival."""

    def __init__(self, model: Model, mask: Padding, memory: KvBudget, budget: TokenBudget) -> None:
        self._model = model
        self._mask = mask
        self._memory = memory
        self._budget = budget
        self._turn = 0
        self._read: list[SequenceState] = []
        self.waiting: list[SequenceState] = []

    def add(self, sequences: Iterable[SequenceState]) -> None:
        self.waiting = sorted([*self.waiting, *sequences], key=lambda sequence: sequence.order)

    def drop(self, sequences: Collection[SequenceState]) -> None:
        self.waiting = [sequence for sequence in self.waiting if sequence not in sequences]

    def next_turn(self, admitted: Sequence[SequenceState]) -> dict[SequenceState, int]:
        """Where prefill goes on, and for whom, by what each has and what is stored. One token is always fed.

        Of several that would compute the same block next, the first does it; the others take it over.
        """
        self._turn += 1
        prefixes = self._memory.prefixes
        begins: dict[SequenceState, int] = {}
        taken: set[bytes] = set()
        for sequence in admitted:
            begin = sequence.num_computed if sequence.cache is not None else 0
            if sequence.uses_prefix_cache and prefixes is not None:
                begin = max(begin, prefixes.known(sequence.chain, sequence.tokens, sequence.positions - 1))
            next_block = sequence.chain.grow(sequence.tokens, sequence.positions)[begin // BLOCK :][:1]
            if sequence.uses_prefix_cache and (prefixes is None or prefixes.works):
                if not taken.isdisjoint(next_block):
                    continue
                taken.update(next_block)
            begins[sequence] = begin
        return begins

    def feed(self, begins: Mapping[SequenceState, int], tokens: int) -> list[Report]:
        """Feed so many tokens of those that wait, from where each begins."""
        reports: list[Report] = []
        by_id = {sequence.id: sequence for sequence in begins}
        for group in together(plan(waiting(begins), tokens, self._turn, self._budget.limits.prompt)):
            sizes = {by_id[chunk.id]: chunk.tokens for chunk in group}
            for sequence in sizes:
                reports += self._guarded(partial(self._adopt, sequence, begins[sequence]), sequence)
            left = {one: count for one, count in sizes.items() if one in self.waiting}
            alike = len(left) > 1 and not any(one.scored for one in left)
            reports += self._fed_together(left) if alike else self._fed_alone(left)
        return reports

    def pop_prefilled(self) -> list[SequenceState]:
        """Those that have been read since the last time and go on: with a cache of their own."""
        read, self._read = self._read, []
        return read

    def _guarded(self, work: Callable[[], list[Report]], sequence: SequenceState) -> list[Report]:
        """If work on its cache raises, it fails."""
        return guarded(work, [sequence], self.drop)

    def _adopt(self, sequence: SequenceState, begin: int) -> list[Report]:
        """Give a sequence the cache with which it begins there."""
        if sequence.cache is None or begin > sequence.num_computed:
            sequence.cache = self._model.new_cache()
            sequence.embed = self._model.embed(sequence.prompt.spans)
            sequence.num_computed = begin
            if begin and self._memory.prefixes is not None:
                self._memory.prefixes.restore(sequence.chain, begin, sequence.cache)
        return []

    def _fed_together(self, sizes: Mapping[SequenceState, int]) -> list[Report]:
        """One pass for several; each alone if that fails, for their caches are as they were."""
        try:
            return self._feed_rows(sizes)
        except Exception as error:
            pass_on(error)
            log.exception("a forward pass of several prompts failed")
            return self._fed_alone(sizes)

    def _fed_alone(self, sizes: Mapping[SequenceState, int]) -> list[Report]:
        reports: list[Report] = []
        for sequence, count in sizes.items():
            reports += self._guarded(partial(self._feed, sequence, count), sequence)
        return reports

    def _feed_rows(self, sizes: Mapping[SequenceState, int]) -> list[Report]:
        began = time.monotonic()
        chunks = [sequence.chunk(count) for sequence, count in sizes.items()]
        own = [sequence.cache for sequence in sizes if sequence.cache is not None]
        logits, fed = self._model.prefill_rows(chunks, own)
        begin = max(sequence.num_computed for sequence in sizes)
        self._budget.prefilled(sum(map(len, chunks)), begin, time.monotonic() - began)
        reports: list[Report] = []
        for row, (sequence, chunk) in enumerate(zip(sizes, chunks, strict=True)):
            sequence.cache = fed[row]
            reports += self._guarded(partial(self._advance, sequence, len(chunk), logits[row : row + 1]), sequence)
        return reports

    def _feed(self, sequence: SequenceState, count: int) -> list[Report]:
        """One chunk of a prompt."""
        assert sequence.cache is not None
        began = time.monotonic()
        logits = self._forward(sequence, count, sequence.cache)
        self._budget.prefilled(count, sequence.num_computed, time.monotonic() - began)
        return self._advance(sequence, count, logits)

    def _forward(self, sequence: SequenceState, count: int, cache: Cache) -> mx.array | None:
        """The logits [1, vocabulary] behind a prompt's last token; None behind others."""
        if sequence.scored:
            logits = self._model.score(sequence.to_feed[:count], cache)
            self._score(sequence, logits)
            return logits[-1:]
        if count == len(sequence.to_feed):
            return self._model.prefill(sequence.chunk(count), cache)
        self._model.feed(sequence.chunk(count), cache)
        return None

    def _score(self, sequence: SequenceState, logits: mx.array) -> None:
        """Note the logprobs of a chunk of an echoed prompt; the first token of all has none."""
        top = sequence.prompt.sampling.logprobs or 0
        ids = sequence.prompt.ids
        if sequence.num_computed == 0:
            sequence.answer.note(Choice(ids[0]))
        mask = self._mask(logits)
        rows = np.array((logits if mask is None else logits + mask).astype(mx.float32))
        for place, row in enumerate(rows, start=sequence.num_computed + 1):
            if place < len(ids):
                sequence.answer.note(described(row, ids[place], top))

    def _advance(self, sequence: SequenceState, count: int, logits: mx.array | None) -> list[Report]:
        """So many more tokens are in its cache. The prompt's last logits give the first token; after a preemption it is
        there already."""
        assert sequence.cache is not None
        prefixes = self._memory.see(sequence.cache)
        before, sequence.num_computed = sequence.num_computed, sequence.num_computed + count
        sequence.computed += count
        if sequence.uses_prefix_cache:
            prefixes.capture(sequence.chain, sequence.tokens, before, sequence.num_computed, sequence.cache)
        sequence.stored = sequence.num_computed
        if sequence.to_feed:
            return []
        sequence.embed = None
        self.waiting.remove(sequence)
        if sequence.num_output:
            self._read.append(sequence)
            return []
        return [] if logits is None else self._begin(sequence, logits)

    def _begin(self, sequence: SequenceState, logits: mx.array) -> list[Report]:
        sequence.first = time.monotonic()
        sequence.answer.say(sequence.prompt.echo or "")
        if sequence.prompt.max_tokens == 0:
            return [*said_by(sequence, sequence.answer.take()), finished(sequence, "length")]
        reports, ended = deliver(sequence, Choices(logits, self._mask(logits)), 0, self._model.eos)
        if not ended:
            self._read.append(sequence)
        return reports
