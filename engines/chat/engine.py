"""The chat engine: requests join and leave one running batch at every step."""

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Several
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import mlx.core as mx
import numpy as np

from engines import wire
from engines.chat.batch import Batch
from engines.chat.prompt import Prompt
from engines.chat.reports import Report, failed, finished, said_by, waiting
from engines.chat.sequence import Answer, Guide, Sequence
from engines.decoding import caches
from engines.decoding.blocks import BLOCK
from engines.decoding.caches import Cache
from engines.decoding.detokenize import TokenTable
from engines.decoding.drafts import Draft
from engines.decoding.model import Model
from engines.decoding.penalties import Penalties
from engines.decoding.prefix import PrefixCache
from engines.decoding.sampling import Choice, Choices, Padding, described
from engines.decoding.schedule import (
    CACHE_STEP,
    LARGEST,
    PAUSED,
    KvShape,
    TokenBudget,
    pauses,
    plan,
    room,
    spare,
    together,
)
from engines.errors import Failure, ServiceError

log = logging.getLogger("chat")


class ChatEngine:
    """`Engine[Prompt]` over one model, within a budget of bytes for KV: running sequences first, then stored blocks.

    `answer` makes of a prompt what turns its tokens into what the client sees.
    """

    def __init__(
        self,
        model: Model,
        table: TokenTable,
        kv_budget_bytes: int,
        answer: Callable[[Prompt, TokenTable], Answer] = Answer,
    ) -> None:
        self._model = model
        self._table = table
        self._answer = answer
        self._kv_budget = kv_budget_bytes
        self._budget = TokenBudget()
        self._prefixes: PrefixCache | None = None
        self._masks = ThreadPoolExecutor(1, "masks")
        self._turn = 0
        self._decoded = 0.0
        self._arrivals = 0
        self._shape: KvShape | None = None
        self._prefilling: list[Sequence] = []
        self._paused: list[Sequence] = []
        self._mask = Padding(table.valid)
        self._batch = Batch(model, self._mask)

    @property
    def _running(self) -> list[Sequence]:
        return self._batch.rows

    @property
    def idle(self) -> bool:
        return not (self._running or self._joining)

    @property
    def _joining(self) -> bool:
        """Somebody is on the way into the batch."""
        return bool(self._prefilling) or any(sequence.credit > 0 for sequence in self._paused)

    @property
    def stored_bytes(self) -> int:
        """What the prefix cache holds."""
        return self._prefixes.bytes if self._prefixes is not None else 0

    def submit(self, id: int, prepared: Prompt, credit: int) -> None:
        sampling, reply = prepared.sampling, prepared.reply
        opening = reply.opening if reply is not None else None
        guide = None
        if prepared.grammar is not None or prepared.call_grammar is not None:
            guide = Guide(prepared.grammar, prepared.call_grammar, opening, self._model.eos, self._masks)
        sequence = Sequence(
            id=id,
            arrival=self._arrivals,
            prompt=prepared,
            credit=credit,
            seed=secrets.randbits(64) if sampling.seed is None else sampling.seed % (1 << 64),
            answer=self._answer(prepared, self._table),
            penalties=Penalties.of(sampling, prepared.repeatable),
            guide=guide,
            tokens=list(prepared.ids),
            began=time.monotonic(),
        )
        self._arrivals += 1
        self._prefilling.append(sequence)

    def cancel(self, id: int) -> None:
        self._prefilling = [sequence for sequence in self._prefilling if sequence.id != id]
        self._paused = [sequence for sequence in self._paused if sequence.id != id]
        self._batch.retain([sequence for sequence in self._running if sequence.id != id], self._prefixes)

    def grant(self, id: int, deltas: int) -> None:
        for sequence in (*self._prefilling, *self._running, *self._paused):
            if sequence.id == id:
                sequence.credit += deltas

    def resize(self, kv_budget_bytes: int) -> None:
        """Stored blocks give way at once, sequences with the next step."""
        self._kv_budget = kv_budget_bytes
        self._fit_blocks()

    def step(self) -> Several[Report]:
        """Let rows join, feed some prompt tokens, then decode one token of every running row; or feed alone."""
        self._turn += 1
        admitted, reports = self._make_room()
        begins = self._beginnings(admitted)
        if self._pauses(begins):
            return [*reports, *self._prefill(begins, min(PAUSED, self._tokens(begins)))]
        if begins:
            self._batch.wait()  # or the first chunk would seem to take as long
        busy = self._joins_long()
        reports += self._guarded(self._return, [*self._running, *self._paused])
        reports += [] if busy else self._prefill(begins, self._tokens(begins))
        return [*reports, *self._guarded(self._decode, [*self._running])]

    def _pauses(self, begins: Mapping[Sequence, int]) -> bool:
        begun = len(self._running) + sum(sequence.credit > 0 for sequence in self._paused)
        now = time.monotonic()
        self._decoded = self._decoded if begun else now
        return pauses(waiting(begins), begun, now - self._decoded)

    def _tokens(self, begins: Mapping[Sequence, int]) -> int:
        return self._budget.tokens(decoding=bool(self._running), waiting=waiting(begins))

    def _guarded(self, work: Callable[[], list[Report]], concerned: list[Sequence]) -> list[Report]:
        """If work on caches raises, all whose caches it touched fail; a batch that it touched starts anew."""
        try:
            return work()
        except Exception:
            log.exception("a forward pass failed, of %s", ", ".join(one.prompt.trace for one in concerned))
            if any(one in concerned for one in self._running):
                self._batch.clear()
            for sequence in concerned:
                self.cancel(sequence.id)
            return [failed(sequence) for sequence in concerned]

    # -- prefill ------------------------------------------------------------------------------------------------

    def _prefill(self, begins: Mapping[Sequence, int], budget: int) -> list[Report]:
        """Feed so many tokens of those that wait, from where each begins."""
        reports: list[Report] = []
        by_id = {sequence.id: sequence for sequence in begins}
        for group in together(plan(waiting(begins), budget, self._turn)):
            sizes = {by_id[chunk.id]: chunk.tokens for chunk in group}
            for sequence in sizes:
                reports += self._guarded(partial(self._adopt, sequence, begins[sequence]), [sequence])
            left = {one: count for one, count in sizes.items() if one in self._prefilling}
            alike = len(left) > 1 and not any(one.scored for one in left)
            reports += self._fed_together(left) if alike else self._fed_alone(left)
        return reports

    def _beginnings(self, admitted: Several[Sequence]) -> dict[Sequence, int]:
        """Where prefill goes on, and for whom, by what each has and what is stored. One token is always fed.

        Of several that would compute the same block next, the first does it; the others take it over.
        """
        begins: dict[Sequence, int] = {}
        taken: set[bytes] = set()
        for sequence in admitted:
            begin = sequence.fed if sequence.cache is not None else 0
            if sequence.taken_over and self._prefixes is not None:
                begin = max(begin, self._prefixes.known(sequence.chain, sequence.tokens, sequence.positions - 1))
            next_block = sequence.chain.grow(sequence.tokens, sequence.positions)[begin // BLOCK :][:1]
            if sequence.taken_over and (self._prefixes is None or self._prefixes.works):
                if not taken.isdisjoint(next_block):
                    continue
                taken.update(next_block)
            begins[sequence] = begin
        return begins

    def _adopt(self, sequence: Sequence, begin: int) -> list[Report]:
        """Give a sequence the cache with which it begins there."""
        if sequence.cache is None or begin > sequence.fed:
            sequence.cache = self._model.new_cache()
            sequence.embed = self._model.embed(sequence.prompt.content)
            sequence.fed = begin
            if begin and self._prefixes is not None:
                self._prefixes.restore(sequence.chain, begin, sequence.cache)
        return []

    def _fed_together(self, sizes: Mapping[Sequence, int]) -> list[Report]:
        """One pass for several; each alone if that fails, for their caches are as they were."""
        try:
            return self._feed_rows(sizes)
        except Exception:
            log.exception("a forward pass of several prompts failed")
            return self._fed_alone(sizes)

    def _fed_alone(self, sizes: Mapping[Sequence, int]) -> list[Report]:
        reports: list[Report] = []
        for sequence, count in sizes.items():
            reports += self._guarded(partial(self._feed, sequence, count), [sequence])
        return reports

    def _feed_rows(self, sizes: Mapping[Sequence, int]) -> list[Report]:
        began = time.monotonic()
        chunks = [sequence.chunk(count) for sequence, count in sizes.items()]
        own = [sequence.cache for sequence in sizes if sequence.cache is not None]
        logits, fed = self._model.prefill_rows(chunks, own)
        self._budget.prefilled(sum(map(len, chunks)), time.monotonic() - began)
        reports: list[Report] = []
        for row, (sequence, chunk) in enumerate(zip(sizes, chunks, strict=True)):
            sequence.cache = fed[row]
            reports += self._guarded(partial(self._advance, sequence, len(chunk), logits[row : row + 1]), [sequence])
        return reports

    def _feed(self, sequence: Sequence, count: int) -> list[Report]:
        """One chunk of a prompt."""
        assert sequence.cache is not None
        began = time.monotonic()
        logits = self._forward(sequence, count, sequence.cache)
        self._budget.prefilled(count, time.monotonic() - began)
        return self._advance(sequence, count, logits)

    def _advance(self, sequence: Sequence, count: int, logits: mx.array | None) -> list[Report]:
        """So many more tokens are in its cache. The prompt's last logits give the first token; after a preemption it is
        there already."""
        assert sequence.cache is not None
        self._shape = self._shape or caches.kv_shape(sequence.cache)
        self._prefixes = self._prefixes or PrefixCache(sequence.cache)
        before, sequence.fed = sequence.fed, sequence.fed + count
        sequence.computed += count
        if sequence.taken_over:
            self._prefixes.capture(sequence.chain, sequence.tokens, before, sequence.fed, sequence.cache)
        sequence.stored = sequence.fed
        if sequence.to_feed:
            return []
        sequence.embed = None
        self._prefilling.remove(sequence)
        if sequence.made:
            self._paused.append(sequence)
            return []
        return [] if logits is None else self._begin(sequence, logits)

    def _forward(self, sequence: Sequence, count: int, cache: Cache) -> mx.array | None:
        """The logits [1, vocabulary] behind a prompt's last token; None behind others."""
        if sequence.scored:
            logits = self._model.score(sequence.to_feed[:count], cache)
            self._score(sequence, logits)
            return logits[-1:]
        if count == len(sequence.to_feed):
            return self._model.prefill(sequence.chunk(count), cache)
        self._model.feed(sequence.chunk(count), cache)
        return None

    def _score(self, sequence: Sequence, logits: mx.array) -> None:
        """Note the logprobs of a chunk of an echoed prompt; the first token of all has none."""
        top = sequence.prompt.sampling.logprobs or 0
        ids = sequence.prompt.ids
        if sequence.fed == 0:
            sequence.answer.note(Choice(ids[0]))
        mask = self._mask(logits)
        rows = np.array((logits if mask is None else logits + mask).astype(mx.float32))
        for place, row in enumerate(rows, start=sequence.fed + 1):
            if place < len(ids):
                sequence.answer.note(described(row, ids[place], top))

    def _begin(self, sequence: Sequence, logits: mx.array) -> list[Report]:
        sequence.first = time.monotonic()
        sequence.answer.say(sequence.prompt.echo or "")
        if sequence.prompt.max_tokens == 0:
            return [*said_by(sequence, sequence.answer.take()), finished(sequence, "length")]
        reports, ended = self._deliver(sequence, Choices(logits, self._mask(logits)), 0)
        if not ended:
            self._paused.append(sequence)
        return reports

    def _joins_long(self) -> bool:
        """Whether long rows are about to join others: copying their caches is work enough for one step."""
        joining = [one.positions for one in self._paused if one.cache is not None and one.credit > 0]
        return bool(self._running) and not self._batch.ahead and sum(joining) > LARGEST

    # -- decode -------------------------------------------------------------------------------------------------

    def _return(self) -> list[Report]:
        """Rows with a cache of their own join the batch, as far as they may send something; not while it is ahead."""
        if self._batch.ahead:
            return []
        returning = [sequence for sequence in self._paused if sequence.credit > 0]
        self._paused = [sequence for sequence in self._paused if sequence.credit <= 0]
        self._prefilling += [sequence for sequence in returning if sequence.cache is None]
        self._batch.join([sequence for sequence in returning if sequence.cache is not None])
        return []

    def _decode(self) -> list[Report]:
        if not self._running:
            return []
        began, ahead = time.monotonic(), self._batch.ahead
        draft = self._draft()
        if draft is not None and not ahead:
            return self._decode_draft(self._running[0], draft, began)
        choices = self._batch.advance(further=draft is None and self._may_go_further())
        self._decoded = time.monotonic()
        if not ahead:
            self._budget.decoded(self._decoded - began)
        reports: list[Report] = []
        ended: list[Sequence] = []
        for row, sequence in enumerate(self._running):
            said, over = self._deliver(sequence, choices, row)
            reports += said
            ended += [sequence] if over else []
        if len(self._running) == 1 and ahead == self._batch.ahead:
            self._budget.decoded_alone(time.monotonic() - began)
        self._part(ended)
        return reports

    def _draft(self) -> Draft | None:
        """What to try as the next tokens of a lone row that nobody waits to join."""
        if len(self._running) > 1 or self._joining or not self._budget.lone_seconds:
            return None
        [sequence] = self._running
        return sequence.draft(min(spare(sequence.positions), self._batch.takes_back - 1))

    def _decode_draft(self, sequence: Sequence, draft: Draft, began: float) -> list[Report]:
        """One pass for the next token and all of the draft; it counts as far as what is chosen is what was tried."""
        choices = self._batch.try_out(draft.tokens)
        self._decoded = time.monotonic()
        reports: list[Report] = []
        held = 0
        for place in range(len(draft.tokens) + 1):
            said, over = self._deliver(sequence, choices, place)
            reports += said
            if over or sequence.tokens[-1:] != [*draft.tokens[place : place + 1]]:
                break
            held += 1
        self._batch.take_back()
        if not draft.certain:
            saved = (held + 1) * self._budget.lone_seconds - (time.monotonic() - began)
            sequence.lookup.tried(len(draft.tokens), held, saved, len(sequence.tokens))
        self._part([sequence] if over else [])
        return reports

    def _part(self, ended: Several[Sequence]) -> None:
        """Those that have ended leave the batch, and those that may send nothing more for now."""
        for sequence in self._running:
            if sequence.credit <= 0 and sequence not in ended:
                self._batch.extract(sequence)
                self._paused.append(sequence)
        staying = [one for one in self._running if one.credit > 0 and one not in ended]
        self._batch.retain(staying, self._prefixes)
        self._batch.store(self._prefixes)

    def _may_go_further(self) -> bool:
        """Whether the pass behind the next may begin at once: nobody waits to join, and there is room for both."""
        if self._shape is None or self._joining:
            return False
        longest = max(sequence.fed for sequence in self._running) + 2 - self._batch.ahead
        allocated = longest % CACHE_STEP != 1  # if not, the next step makes room before
        return allocated and self._shape.bytes(len(self._running), longest) <= self._kv_budget

    def _deliver(self, sequence: Sequence, choices: Choices, row: int) -> tuple[list[Report], bool]:
        """What the next token lets the client see, and whether it was the last. Its failure is its row's alone."""
        try:
            choice = sequence.choose(choices, row)
            delta, reason = sequence.accept(choice, choice.token in self._model.eos)
        except ServiceError as error:
            return [wire.Failed(sequence.id, Failure.of(error))], True
        except Exception:
            log.exception("request %s failed", sequence.prompt.trace)
            return [failed(sequence)], True
        said = said_by(sequence, delta)
        return (said, False) if reason is None else ([*said, finished(sequence, reason)], True)

    # -- the batch ----------------------------------------------------------------------------------------------

    def _make_room(self) -> tuple[list[Sequence], list[Report]]:
        """Keep the caches in their budget, and say who may prefill. Stored blocks get what is left.

        The youngest give their caches up, those that can't send anything before others, and prefill again when there
        is room. A row that is too long even alone ends.
        """
        if self._shape is None:
            return [*self._prefilling], []
        every = [*self._prefilling, *self._running, *self._paused]
        holding = sorted(every, key=lambda one: (one in self._paused and one.credit <= 0, one.arrival))
        fits = room([sequence.positions for sequence in holding], self._shape, self._kv_budget)
        preempted = holding[fits.keep :]
        self._prefilling += [sequence for sequence in preempted if sequence in self._running]
        self._batch.retain([one for one in self._running if one not in preempted], self._prefixes)
        for sequence in preempted:
            sequence.cache, sequence.fed = None, 0
        ended = self._end_too_long(self._shape) if fits.keep == 1 else []
        begun = [one for one in holding[: fits.keep] if one in self._prefilling and one.cache is not None]
        self._prefilling.sort(key=lambda sequence: sequence.arrival)
        self._fit_blocks()
        return [one for one in self._prefilling if one in holding[: fits.begin] or one in begun], ended

    def _fit_blocks(self) -> None:
        """Stored blocks have what the sequences leave."""
        if self._shape is not None and self._prefixes is not None:
            self._prefixes.shrink(self._kv_budget - self._live_bytes(self._shape))

    def _live_bytes(self, shape: KvShape) -> int:
        alone = [one for one in (*self._prefilling, *self._paused) if one.cache is not None]
        longest = max((one.positions for one in self._running), default=0)
        return shape.bytes(len(self._running), longest) + sum(shape.bytes(1, one.positions) for one in alone)

    def _end_too_long(self, shape: KvShape) -> list[Report]:
        ending = [one for one in self._running if shape.bytes(1, len(one.tokens)) > self._kv_budget]
        self._batch.retain([one for one in self._running if one not in ending], self._prefixes)
        reports: list[Report] = []
        for sequence in ending:
            sequence.answer.end()
            reports += [*said_by(sequence, sequence.answer.take()), finished(sequence, "length")]
        return reports
