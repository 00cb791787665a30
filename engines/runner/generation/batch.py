"""The rows that decode together, a pass a token; the next pass may begin before the last one's tokens are known."""

from collections.abc import Sequence

import mlx.core as mx

from engines.runner.generation.kv import caches
from engines.runner.generation.kv.caches import Cache
from engines.runner.generation.kv.prefix_cache import PrefixCache
from engines.runner.generation.model import Model
from engines.runner.generation.sampling.sampler import Choices, Padding
from engines.runner.generation.sequence import SequenceState


class Batch:
    """`rows` in the order in which their cache holds them. `ahead`: a pass has begun that no tokens are known for yet.

    A lone row keeps its own cache: one of several costs it a mask and places by row, 1.5 of 11 ms a step.
    All methods keep a pass that is ahead: who leaves takes part in it for nothing. Nobody can join meanwhile.
    """

    def __init__(self, model: Model, mask: Padding) -> None:
        self._model = model
        self._mask = mask
        self._cache: Cache | None = None
        self._pass: Choices | None = None
        self.rows: list[SequenceState] = []

    @property
    def ahead(self) -> bool:
        return self._pass is not None

    def wait(self) -> None:
        """Until the device is done with the pass that is ahead."""
        if self._pass is not None:
            self._pass.wait()

    def join(self, sequences: Sequence[SequenceState]) -> None:
        """Take over rows with a cache of their own."""
        assert self._pass is None
        if not sequences:
            return
        own = [sequence.cache for sequence in sequences if sequence.cache is not None]
        if self._cache is not None and len(self.rows) > 1:
            caches.extend(self._cache, caches.merge(own))
        else:
            own = [self._cache, *own] if self._cache is not None else own
            self._cache = caches.merge(own) if len(own) > 1 else own[0]
        for sequence in sequences:
            sequence.cache = None
        self.rows += sequences

    def advance(self, *, further: bool) -> Choices:
        """One more token a row: what to choose it from, computed. `further`: begin the pass behind it, if that may be.

        So the device goes on while the host reads tokens, makes text of them and sends it.
        """
        known = [sequence.tokens[-1] for sequence in self.rows]
        choices = self._pass or self._begun(known)
        self._pass = self._begun(choices.greedy) if further and self._foreseen else None
        choices.wait()
        return choices

    @property
    def takes_back(self) -> int:
        """How many tokens a lone row can be fed and forget again; 0 if there is none."""
        return caches.takes_back(self._cache) if len(self.rows) == 1 and self._cache is not None else 0

    def try_out(self, draft: Sequence[int]) -> Choices:
        """What to choose the lone row's next tokens from if they are those of the draft: a token more than it has."""
        assert self._cache is not None and self._pass is None
        [row] = self.rows
        tokens = [row.tokens[-1], *draft]
        logits = self._model.score(tokens, self._cache)
        row.num_computed += len(tokens)
        return Choices(logits, self._mask(logits), row.scores_likeliest)

    def take_back(self) -> None:
        """Forget what was fed of a draft that didn't hold."""
        assert self._cache is not None
        [row] = self.rows
        count = row.num_computed - len(row.tokens) + 1
        caches.take_back(self._cache, count)
        row.num_computed -= count

    def extract(self, sequence: SequenceState) -> None:
        """Give a row a cache of its own, before it leaves."""
        assert self._cache is not None and self._pass is None
        sequence.cache = self._own(self._cache, self.rows.index(sequence))

    def retain(self, sequences: list[SequenceState], prefixes: PrefixCache | None) -> None:
        """Let all rows leave but these; what they have computed is stored."""
        if len(sequences) == len(self.rows):
            return
        self._store([one for one in self.rows if one not in sequences], prefixes)
        places = [place for place, one in enumerate(self.rows) if one in sequences]
        if places and self._cache is not None:
            if len(places) == 1:
                self._cache = self._own(self._cache, places[0])
            else:
                caches.keep(self._cache, places)
            self._pass = self._pass.only(places) if self._pass is not None else None
            self.rows = sequences
        else:
            self.clear()

    def clear(self) -> None:
        """Begin anew: after a pass that failed, some layers may hold more than others."""
        self.rows, self._cache, self._pass = [], None, None

    def store(self, prefixes: PrefixCache | None) -> None:
        """Store the blocks that have become whole, if it is time."""
        if self._pass is None and self._due:
            self._store(self.rows, prefixes)

    def _own(self, cache: Cache, row: int) -> Cache:
        return caches.extract(cache, row) if len(self.rows) > 1 else cache

    @property
    def _due(self) -> bool:
        """Blocks are cut for all rows in one step: cutting waits for the device, so no pass may be ahead then."""
        return any(
            one.stores_answer and one.num_computed - one.stored >= self._model.limits.stored_together
            for one in self.rows
        )

    @property
    def _foreseen(self) -> bool:
        return not self._due and all(one.foreseen for one in self.rows)

    def _begun(self, tokens: Sequence[int] | mx.array) -> Choices:
        assert self._cache is not None
        logits = self._model.decode(tokens, self._cache)
        for sequence in self.rows:
            sequence.num_computed += 1
        return Choices(logits, self._mask(logits), any(one.scores_likeliest for one in self.rows))

    def _store(self, sequences: Sequence[SequenceState], prefixes: PrefixCache | None) -> None:
        for sequence in sequences:
            if self._cache is not None and prefixes is not None and sequence.stores_answer:
                row, fed = self.rows.index(sequence), sequence.num_computed
                prefixes.capture(sequence.chain, sequence.tokens, sequence.stored, fed, self._cache, row)
            sequence.stored = sequence.num_computed
