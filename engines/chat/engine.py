"""The chat engine: requests join and leave one running batch at every step."""

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import mlx.core as mx

from engines import wire
from engines.chat.prompt import Prompt
from engines.decoding import model as models
from engines.decoding.detokenize import Detokenizer, TokenTable
from engines.decoding.model import Cache, Model
from engines.decoding.sampling import Draw, sample
from engines.decoding.schedule import TokenBudget, Waiting, plan
from engines.decoding.stops import StopMatcher
from engines.errors import Failure, InternalError
from engines.types import FinishReason, Usage

Report = wire.Text | wire.Finished | wire.Failed

log = logging.getLogger("chat")


@dataclass
class Row:
    """One request in work. `cache` is its own while it isn't in the batch; None before its first token is fed."""

    id: int
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
        self._prefilling: list[Row] = []
        self._running: list[Row] = []
        self._paused: list[Row] = []
        self._batch: Cache | None = None
        self._valid: mx.array | None = None
        self._width = 0

    @property
    def idle(self) -> bool:
        return not self._prefilling and not self._running

    def submit(self, id: int, prepared: Prompt, credit: int) -> None:
        seed = prepared.sampling.seed
        sequence = Row(
            id=id,
            prompt=prepared,
            credit=credit,
            seed=secrets.randbits(64) if seed is None else seed % (1 << 64),
            detokenizer=Detokenizer(self._table),
            stops=StopMatcher(prepared.sampling.stop),
            began=time.monotonic(),
        )
        self._prefilling.append(sequence)

    def cancel(self, id: int) -> None:
        self._prefilling = [sequence for sequence in self._prefilling if sequence.id != id]
        self._paused = [sequence for sequence in self._paused if sequence.id != id]
        self._retain([sequence for sequence in self._running if sequence.id != id])

    def grant(self, id: int, deltas: int) -> None:
        for sequence in (*self._prefilling, *self._running, *self._paused):
            if sequence.id == id:
                sequence.credit += deltas
        returning = [sequence for sequence in self._paused if sequence.credit > 0]
        self._paused = [sequence for sequence in self._paused if sequence.credit <= 0]
        self._join(returning)

    def step(self) -> Sequence[Report]:
        """Feed some prompt tokens, then decode one token of every running row."""
        self._turn += 1
        reports = self._guarded(self._prefill, [*self._prefilling])
        self._make_room()
        return [*reports, *self._guarded(self._decode, [*self._running])]

    def _guarded(self, work: Callable[[], list[Report]], concerned: list[Row]) -> list[Report]:
        """The forward pass is shared: if it raises, all whose caches it touched fail, and the batch starts anew."""
        try:
            return work()
        except Exception:
            log.exception("a forward pass failed")
            for sequence in concerned:
                self.cancel(sequence.id)
            return [_failed(sequence) for sequence in concerned]

    # -- prefill ------------------------------------------------------------------------------------------------

    def _prefill(self) -> list[Report]:
        reports: list[Report] = []
        by_id = {sequence.id: sequence for sequence in self._prefilling}
        waiting = [Waiting(sequence.id, len(sequence.to_feed)) for sequence in self._prefilling]
        for chunk in plan(waiting, self._budget.tokens(decoding=bool(self._running)), self._turn):
            sequence = by_id[chunk.id]
            if sequence.cache is None:
                sequence.cache = self._model.new_cache()
            began = time.monotonic()
            tokens = sequence.to_feed[: chunk.tokens]
            logits = self._model.prefill(tokens, sequence.cache)
            self._budget.measured(chunk.tokens, time.monotonic() - began)
            sequence.fed += chunk.tokens
            if not sequence.to_feed:
                self._prefilling.remove(sequence)
                reports += self._first_token(sequence, logits)
        return reports

    def _first_token(self, sequence: Row, logits: mx.array) -> list[Report]:
        """The prompt's last logits give the first token; after a preemption it is there already."""
        reports: list[Report] = []
        if not sequence.made:
            sequence.first = time.monotonic()
            token = sample(logits, [sequence.draw], self._mask(logits))[0]
            reports, ended = self._deliver(sequence, token)
            if ended:
                return reports
        self._join([sequence])
        return reports

    # -- decode -------------------------------------------------------------------------------------------------

    def _decode(self) -> list[Report]:
        if self._batch is None:
            return []
        logits = self._model.decode([sequence.made[-1] for sequence in self._running], self._batch)
        tokens = sample(logits, [sequence.draw for sequence in self._running], self._mask(logits))
        reports: list[Report] = []
        staying: list[Row] = []
        for row, (sequence, token) in enumerate(zip(self._running, tokens, strict=True)):
            sequence.fed += 1
            said, ended = self._deliver(sequence, token)
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

    def _deliver(self, sequence: Row, token: int) -> tuple[list[Report], bool]:
        """What a new token lets the client see, and whether it was the last. Its failure is its row's alone."""
        try:
            return self._account(sequence, token)
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

    def _make_room(self) -> None:
        """Keep the caches in their budget: the youngest rows give theirs up, and prefill again when there is room."""
        while len(self._running) > 1 and self._batch is not None and models.kv_bytes(self._batch) > self._kv_budget:
            youngest = self._running[-1]
            self._retain(self._running[:-1])
            youngest.fed = 0
            self._prefilling.append(youngest)

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
