"""The engine of all that writes text: requests join and leave one running batch at every step."""

import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from engines.runner.generation.batch import Batch
from engines.runner.generation.emit import deliver, finished, said_by, waiting
from engines.runner.generation.grammar.grammar_state import GrammarState
from engines.runner.generation.kv.blocks import Chain
from engines.runner.generation.kv.kv_budget import KvBudget
from engines.runner.generation.model import Model
from engines.runner.generation.output_text import OutputText
from engines.runner.generation.prefill import Prefill
from engines.runner.generation.prompt import Prompt
from engines.runner.generation.sampling.penalties import Penalties
from engines.runner.generation.sampling.sampler import Padding
from engines.runner.generation.scheduler import CACHE_STEP, PAUSED, pauses, spare
from engines.runner.generation.sequence import SequenceState
from engines.runner.generation.speculation import Draft
from engines.runner.generation.token_budget import TokenBudget
from engines.runner.row_engine import Report, RowEngine
from engines.runner.tokenization.detokenize import TokenTable


class DecodingEngine(RowEngine[SequenceState]):
    """`Engine[Prompt]` over one model, within a budget of bytes for KV: running sequences first, then stored blocks.

    `answer` makes of a prompt what turns its tokens into what the client sees. Sequences wait in `_prefill`, are
    `_paused` with a cache of their own, or run in the `_batch`.
    """

    def __init__(
        self,
        model: Model,
        table: TokenTable,
        kv_budget_bytes: int,
        answer: Callable[[Prompt, TokenTable], OutputText] = OutputText,
    ) -> None:
        mask = Padding(table.valid)
        self._model = model
        self._table = table
        self._answer = answer
        self._budget = TokenBudget(model.limits)
        self._memory = KvBudget(kv_budget_bytes)
        self._masks = ThreadPoolExecutor(1, "masks")
        self._decoded = 0.0
        self._arrivals = 0
        self._prefill = Prefill(model, mask, self._memory, self._budget)
        self._paused: list[SequenceState] = []
        self._batch = Batch(model, mask)

    @property
    def _running(self) -> list[SequenceState]:
        return self._batch.rows

    @property
    def idle(self) -> bool:
        return not (self._running or self._joining)

    @property
    def _joining(self) -> bool:
        """Somebody is on the way into the batch."""
        return bool(self._prefill.waiting) or any(sequence.credit > 0 for sequence in self._paused)

    @property
    def stored_bytes(self) -> int:
        """What the prefix cache holds."""
        return self._memory.stored_bytes

    def submit(self, id: int, prepared: Prompt, credit: int) -> None:
        sampling = prepared.sampling
        guide = None
        if prepared.grammar is not None or prepared.call_grammar is not None:
            opening = prepared.thought.opening
            guide = GrammarState(prepared.grammar, prepared.call_grammar, opening, self._model.eos, self._masks)
        sequence = SequenceState(
            id=id,
            arrival=self._arrivals,
            prompt=prepared,
            credit=credit,
            seed=secrets.randbits(64) if sampling.seed is None else sampling.seed % (1 << 64),
            answer=self._answer(prepared, self._table),
            penalties=Penalties.of(sampling, prepared.repeatable),
            guide=guide,
            chain=Chain(self._model.identity, prepared.spans),
            tokens=list(prepared.ids),
            began=time.monotonic(),
        )
        self._arrivals += 1
        self._prefill.add([sequence])

    @property
    def rows(self) -> Sequence[SequenceState]:
        return (*self._prefill.waiting, *self._running, *self._paused)

    def drop(self, rows: Collection[SequenceState]) -> None:
        self._prefill.drop(rows)
        self._paused = [sequence for sequence in self._paused if sequence not in rows]
        self._retain([sequence for sequence in self._running if sequence not in rows])

    def drop_failed(self, rows: Collection[SequenceState]) -> None:
        """The batch starts anew where it was touched."""
        if any(sequence in rows for sequence in self._running):
            self._batch.clear()
        self.drop(rows)

    def resize(self, kv_budget_bytes: int) -> None:
        """Stored blocks give way at once, sequences with the next step."""
        self._memory.budget = kv_budget_bytes
        self._fit_blocks()

    def step(self) -> Sequence[Report]:
        """Let rows join, feed some prompt tokens, then decode one token of every running row; or feed alone."""
        admitted, reports = self._make_room()
        begins = self._prefill.next_turn(admitted)
        if self._pauses(begins):
            return [*reports, *self._feed(begins, min(PAUSED, self._tokens(begins)))]
        if begins:
            self._batch.wait()  # or the first chunk would seem to take as long
        busy = self._joins_long()
        reports += self.guarded(self._return, [*self._running, *self._paused])
        reports += [] if busy else self._feed(begins, self._tokens(begins))
        return [*reports, *self.guarded(self._decode, [*self._running])]

    # -- prefill ------------------------------------------------------------------------------------------------

    def _pauses(self, begins: Mapping[SequenceState, int]) -> bool:
        begun = len(self._running) + sum(sequence.credit > 0 for sequence in self._paused)
        now = time.monotonic()
        self._decoded = self._decoded if begun else now
        return pauses(waiting(begins), begun, now - self._decoded)

    def _tokens(self, begins: Mapping[SequenceState, int]) -> int:
        return self._budget.tokens(decoding=bool(self._running), waiting=waiting(begins))

    def _feed(self, begins: Mapping[SequenceState, int], tokens: int) -> list[Report]:
        reports = self._prefill.feed(begins, tokens)
        self._paused += self._prefill.pop_prefilled()
        return reports

    def _joins_long(self) -> bool:
        """Whether long rows are about to join others: copying their caches is work enough for one step."""
        joining = [one.positions for one in self._paused if one.cache is not None and one.credit > 0]
        return bool(self._running) and not self._batch.ahead and sum(joining) > self._model.limits.usual

    # -- decode -------------------------------------------------------------------------------------------------

    def _return(self) -> list[Report]:
        """Rows with a cache of their own join the batch, as far as they may send something; not while it is ahead."""
        if self._batch.ahead:
            return []
        returning = [sequence for sequence in self._paused if sequence.credit > 0]
        self._paused = [sequence for sequence in self._paused if sequence.credit <= 0]
        self._prefill.add([sequence for sequence in returning if sequence.cache is None])
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
        reports: list[Report] = []
        ended: list[SequenceState] = []
        for row, sequence in enumerate(self._running):
            said, over = deliver(sequence, choices, row, self._model.eos)
            reports += said
            ended += [sequence] if over else []
        if self._batch.ahead or not ahead:  # or most of the pass was over before
            self._budget.decoded(time.monotonic() - began, len(self._running))
        self._part(ended)
        return reports

    def _draft(self) -> Draft | None:
        """What to try as the next tokens of a lone row that nobody waits to join."""
        if len(self._running) > 1 or self._joining or not self._budget.lone_seconds:
            return None
        [sequence] = self._running
        return sequence.draft(min(spare(sequence.positions), self._batch.takes_back - 1))

    def _decode_draft(self, sequence: SequenceState, draft: Draft, began: float) -> list[Report]:
        """One pass for the next token and all of the draft; it counts as far as what is chosen is what was tried."""
        choices = self._batch.try_out(draft.tokens)
        self._decoded = time.monotonic()
        reports: list[Report] = []
        held = 0
        for place in range(len(draft.tokens) + 1):
            said, over = deliver(sequence, choices, place, self._model.eos)
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

    def _part(self, ended: Sequence[SequenceState]) -> None:
        """Those that have ended leave the batch, and those that may send nothing more for now."""
        for sequence in self._running:
            if sequence.credit <= 0 and sequence not in ended:
                self._batch.extract(sequence)
                self._paused.append(sequence)
        self._retain([one for one in self._running if one.credit > 0 and one not in ended])
        self._batch.store(self._memory.prefixes)

    def _retain(self, staying: list[SequenceState]) -> None:
        self._batch.retain(staying, self._memory.prefixes)

    def _may_go_further(self) -> bool:
        """Whether the pass behind the next may begin at once: nobody waits to join, and there is room for both."""
        if self._joining:
            return False
        longest = max(sequence.num_computed for sequence in self._running) + 2 - self._batch.ahead
        allocated = longest % CACHE_STEP != 1  # if not, the next step makes room before
        return allocated and self._memory.bytes(len(self._running), longest) <= self._memory.budget

    # -- room ---------------------------------------------------------------------------------------------------

    def _make_room(self) -> tuple[list[SequenceState], list[Report]]:
        """Keep the caches in their budget, and say who may prefill. Stored blocks get what is left.

        The youngest give their caches up, background rows before others and those that can't send anything before all,
        and prefill again when there is room. A row that is too long even alone ends.
        """
        holding = sorted(self.rows, key=lambda one: (one in self._paused and one.credit <= 0, one.order))
        fits = self._memory.room([sequence.positions for sequence in holding])
        preempted = holding[fits.keep :]
        self._prefill.add([sequence for sequence in preempted if sequence in self._running])
        self._retain([one for one in self._running if one not in preempted])
        for sequence in preempted:
            sequence.cache, sequence.num_computed = None, 0
        ended = self._end_too_long() if fits.keep == 1 else []
        may_begin = holding[: fits.begin]
        begun = [one for one in holding[: fits.keep] if one.cache is not None]
        self._fit_blocks()
        return [one for one in self._prefill.waiting if one in may_begin or one in begun], ended

    def _fit_blocks(self) -> None:
        alone = [one for one in (*self._prefill.waiting, *self._paused) if one.cache is not None]
        longest = max((one.positions for one in self._running), default=0)
        together = self._memory.bytes(len(self._running), longest)
        self._memory.fit_blocks(together + sum(self._memory.bytes(1, one.positions) for one in alone))

    def _end_too_long(self) -> list[Report]:
        ending = [one for one in self._running if self._memory.bytes(1, len(one.tokens)) > self._memory.budget]
        self._retain([one for one in self._running if one not in ending])
        reports: list[Report] = []
        for sequence in ending:
            sequence.answer.end()
            reports += [*said_by(sequence, sequence.answer.take()), finished(sequence, "length")]
        return reports
