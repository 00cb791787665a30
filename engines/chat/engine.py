"""The chat engine: requests join and leave one running batch at every step."""

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import mlx.core as mx

from engines import wire
from engines.chat.prompt import Prompt
from engines.decoding import model as models
from engines.decoding.detokenize import Detokenizer, TokenTable
from engines.decoding.model import Cache, Model
from engines.decoding.sampling import Choices, Draw
from engines.decoding.schedule import KvShape, TokenBudget, Waiting, plan, room
from engines.decoding.stops import StopMatcher
from engines.errors import Failure, InternalError
from engines.types import FinishReason, Usage

Report = wire.Text | wire.Finished | wire.Failed

log = logging.getLogger("chat")


@dataclass(eq=False)
class Row:
    """One request in work. `cache` is its own while it isn't in the batch; None before its first token is fed."""

    id: int
    arrival: int
    prompt: Prompt
    credit: int
    seed: int
    detokenizer: Detokenizer
    stops: StopMatcher
    made: list[int] = field(default_factory=list)
    cache: Cache | None = None
    fed: int = 0
    began: float = 0.0
    first: float = 0.0

    @property
    def to_feed(self) -> Sequence[int]:
        """What prefill still has to feed: the prompt, and after a preemption all that was made but the last token."""
        return (*self.prompt.ids, *self.made[:-1])[self.fed :]

    @property
    def positions(self) -> int:
        """How many its cache holds when everything is fed."""
        return len(self.prompt.ids) + max(0, len(self.made) - 1)

    @property
    def draw(self) -> Draw:
        sampling = self.prompt.sampling
        return Draw(sampling.temperature, sampling.top_p, self.seed, len(self.made))


class ChatEngine:
    """`Engine[Prompt]` over one model, within a budget of bytes for KV caches."""

    def __init__(self, model: Model, table: TokenTable, kv_budget_bytes: int) -> None:
        self._model = model
        self._table = table
        self._kv_budget = kv_budget_bytes
        self._budget = TokenBudget()
        self._turn = 0
        self._arrivals = 0
        self._shape: KvShape | None = None
        self._prefilling: list[Row] = []
        self._running: list[Row] = []
        self._paused: list[Row] = []
        self._batch: Cache | None = None
        self._valid: mx.array | None = None
        self._width = 0

    @property
    def idle(self) -> bool:
        return not (self._prefilling or self._running or any(sequence.credit > 0 for sequence in self._paused))

    def submit(self, id: int, prepared: Prompt, credit: int) -> None:
        seed = prepared.sampling.seed
        sequence = Row(
            id=id,
            arrival=self._arrivals,
            prompt=prepared,
            credit=credit,
            seed=secrets.randbits(64) if seed is None else seed % (1 << 64),
            detokenizer=Detokenizer(self._table),
            stops=StopMatcher(prepared.sampling.stop),
            began=time.monotonic(),
        )
        self._arrivals += 1
        self._prefilling.append(sequence)

    def cancel(self, id: int) -> None:
        self._prefilling = [sequence for sequence in self._prefilling if sequence.id != id]
        self._paused = [sequence for sequence in self._paused if sequence.id != id]
        self._retain([sequence for sequence in self._running if sequence.id != id])

    def grant(self, id: int, deltas: int) -> None:
        for sequence in (*self._prefilling, *self._running, *self._paused):
            if sequence.id == id:
                sequence.credit += deltas

    def step(self) -> Sequence[Report]:
        """Feed some prompt tokens, then decode one token of every running row."""
        self._turn += 1
        admitted, reports = self._make_room()
        reports += self._prefill(admitted)
        reports += self._guarded(self._return, [*self._running, *self._paused])
        return [*reports, *self._guarded(self._decode, [*self._running])]

    def _guarded(self, work: Callable[[], list[Report]], concerned: list[Row]) -> list[Report]:
        """If work on caches raises, all whose caches it touched fail; a batch that it touched starts anew."""
        try:
            return work()
        except Exception:
            log.exception("a forward pass failed")
            for sequence in concerned:
                self.cancel(sequence.id)
            return [_failed(sequence) for sequence in concerned]

    # -- prefill ------------------------------------------------------------------------------------------------

    def _prefill(self, admitted: Sequence[Row]) -> list[Report]:
        reports: list[Report] = []
        by_id = {sequence.id: sequence for sequence in admitted}
        waiting = [Waiting(sequence.id, len(sequence.to_feed)) for sequence in admitted]
        for chunk in plan(waiting, self._budget.tokens(decoding=bool(self._running)), self._turn):
            sequence = by_id[chunk.id]
            reports += self._guarded(partial(self._feed, sequence, chunk.tokens), [sequence])
        return reports

    def _feed(self, sequence: Row, count: int) -> list[Report]:
        """One chunk of a prompt. Its last logits give the first token; after a preemption it is there already."""
        if sequence.cache is None:
            sequence.cache = self._model.new_cache()
        began = time.monotonic()
        logits = self._model.prefill(sequence.to_feed[:count], sequence.cache)
        self._budget.measured(count, time.monotonic() - began)
        self._shape = self._shape or models.kv_shape(sequence.cache)
        sequence.fed += count
        if sequence.to_feed:
            return []
        self._prefilling.remove(sequence)
        reports: list[Report] = []
        ended = False
        if not sequence.made:
            sequence.first = time.monotonic()
            reports, ended = self._deliver(sequence, Choices(logits, self._mask(logits)), 0)
        if not ended:
            self._paused.append(sequence)
        return reports

    # -- decode -------------------------------------------------------------------------------------------------

    def _return(self) -> list[Report]:
        """Rows with a cache of their own join the batch, as far as they may send something."""
        returning = [sequence for sequence in self._paused if sequence.credit > 0]
        self._paused = [sequence for sequence in self._paused if sequence.credit <= 0]
        self._prefilling += [sequence for sequence in returning if sequence.cache is None]
        self._join([sequence for sequence in returning if sequence.cache is not None])
        return []

    def _decode(self) -> list[Report]:
        if self._batch is None:
            return []
        logits = self._model.decode([sequence.made[-1] for sequence in self._running], self._batch)
        choices = Choices(logits, self._mask(logits))
        reports: list[Report] = []
        staying: list[Row] = []
        for row, sequence in enumerate(self._running):
            sequence.fed += 1
            said, ended = self._deliver(sequence, choices, row)
            reports += said
            if ended:
                continue
            if sequence.credit > 0:
                staying.append(sequence)
            else:
                sequence.cache = models.extract(self._batch, row)
                self._paused.append(sequence)
        self._retain(staying)
        return reports

    def _deliver(self, sequence: Row, choices: Choices, row: int) -> tuple[list[Report], bool]:
        """What the next token lets the client see, and whether it was the last. Its failure is its row's alone."""
        try:
            return self._account(sequence, choices.token(row, sequence.draw))
        except Exception:
            log.exception("a row failed")
            return [_failed(sequence)], True

    def _account(self, sequence: Row, token: int) -> tuple[list[Report], bool]:
        sequence.made.append(token)
        if token in self._model.eos:
            return self._end(sequence, sequence.detokenizer.flush(), "stop"), True
        text, stopped = sequence.stops.feed(sequence.detokenizer.feed(token))
        if stopped:
            return [*_text(sequence, text), _finished(sequence, "stop")], True
        if len(sequence.made) >= sequence.prompt.max_tokens:
            return self._end(sequence, sequence.detokenizer.flush(), "length", text), True
        return _text(sequence, text), False

    def _end(self, sequence: Row, rest: str, reason: FinishReason, shown: str = "") -> list[Report]:
        """Show what was held back as half a character or half a stop string, in one last text."""
        text, stopped = sequence.stops.feed(rest)
        tail = "" if stopped else sequence.stops.flush()
        return [*_text(sequence, shown + text + tail), _finished(sequence, "stop" if stopped else reason)]

    # -- the batch ----------------------------------------------------------------------------------------------

    def _join(self, sequences: list[Row]) -> None:
        if not sequences:
            return
        joining = models.merge([sequence.cache for sequence in sequences if sequence.cache is not None])
        if self._batch is None:
            self._batch = joining
        else:
            models.extend(self._batch, joining)
        for sequence in sequences:
            sequence.cache = None
        self._running += sequences

    def _retain(self, sequences: list[Row]) -> None:
        """Let all rows leave the batch but these."""
        if len(sequences) == len(self._running):
            return
        if sequences and self._batch is not None:
            models.keep(self._batch, [row for row, one in enumerate(self._running) if one in sequences])
        else:
            self._batch = None
        self._running = sequences

    def _make_room(self) -> tuple[list[Row], list[Report]]:
        """Keep the caches in their budget, and say who may prefill.

        The youngest give their caches up, those that can't send anything before others, and prefill again when there
        is room. A row that is too long even alone ends.
        """
        if self._shape is None:
            return [*self._prefilling], []
        holding = sorted([*self._prefilling, *self._running], key=lambda sequence: sequence.arrival)
        holding += sorted(self._paused, key=lambda sequence: (sequence.credit <= 0, sequence.arrival))
        fits = room([sequence.positions for sequence in holding], self._shape, self._kv_budget)
        preempted = holding[fits.keep :]
        for sequence in preempted:
            sequence.cache, sequence.fed = None, 0
        self._prefilling += [sequence for sequence in preempted if sequence in self._running]
        self._retain([sequence for sequence in self._running if sequence not in preempted])
        ended = self._end_too_long(self._shape) if fits.keep == 1 else []
        begun = [one for one in holding[: fits.keep] if one in self._prefilling and one.cache is not None]
        self._prefilling.sort(key=lambda sequence: sequence.arrival)
        return [one for one in self._prefilling if one in holding[: fits.begin] or one in begun], ended

    def _end_too_long(self, shape: KvShape) -> list[Report]:
        ending = [one for one in self._running if shape.bytes(1, one.positions + 1) > self._kv_budget]
        self._retain([one for one in self._running if one not in ending])
        return [report for one in ending for report in self._end(one, one.detokenizer.flush(), "length")]

    def _mask(self, logits: mx.array) -> mx.array | None:
        """0 for every id that is a token, -inf for the padding of the vocabulary; None where there is none."""
        width = logits.shape[-1]
        if self._width != width:
            self._width = width
            valid = [*self._table.valid, *[False] * width][:width]
            self._valid = None if all(valid) else mx.array([0.0 if one else -float("inf") for one in valid])
        return self._valid


def _text(sequence: Row, text: str) -> list[Report]:
    if not text:
        return []
    sequence.credit -= 1
    return [wire.Text(sequence.id, text)]


def _finished(sequence: Row, reason: FinishReason) -> wire.Finished:
    usage = Usage(len(sequence.prompt.ids), len(sequence.made))
    return wire.Finished(sequence.id, reason, usage, sequence.first - sequence.began, time.monotonic() - sequence.first)


def _failed(sequence: Row) -> wire.Failed:
    return wire.Failed(sequence.id, Failure.of(InternalError("This request failed; the server's log says why.")))
