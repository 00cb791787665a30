"""`Inference` for real: carries the pool's decisions out, over one runner process a model.

One event loop owns everything here. The pool (`pool/`) decides; this module starts and ends runners, passes requests
in and events out, and tells the pool what happened. A request's prompt is prepared by its model's runner before it
queues, so what is wrong with it is known before anything is loaded or unloaded for it.
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from typing import Literal, Self, assert_never, cast

import msgspec

from engines import pool, trace, turns, wire
from engines.audio_types import (
    AlignmentDone,
    AlignmentRequest,
    PieceDone,
    PieceRequest,
    Sound,
    UtteranceDone,
    UtteranceRequest,
)
from engines.awake import KeepAwake
from engines.catalog import Catalog, Entry
from engines.clock import AwakeClock
from engines.errors import LoadFailed, RunnerDied, ServiceError, Stalled, stopping
from engines.runners import COMMAND, Heard, Runners
from engines.status import metrics, model_status
from engines.tasks import Tasks
from engines.ticket import Happening, Question, Ticket
from engines.types import (
    Capability,
    ChatRequest,
    CompletionRequest,
    Delta,
    Event,
    Health,
    Metric,
    ModelStatus,
    Request,
    Started,
    Tokenized,
    Usage,
)
from engines.watchdog import answers, verdict
from engines.worker import Worker

TICK_SECONDS = 0.25
OPEN_IDLE_SECONDS = 30.0
RETRY_SECONDS = 1.0
WORK_SPACE = 256 * 1024 * 1024

log = logging.getLogger("runtime")


class Options(msgspec.Struct, frozen=True):
    """What the runtime needs to know of the configuration; model names as clients write them."""

    limits: pool.Limits
    context_limit: int = 32768
    pinned: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    spare: bool = False
    runner: tuple[str, ...] = COMMAND


class Runtime:
    """Use as an async context manager: leaving it ends every runner."""

    def __init__(self, catalog: Catalog, options: Options, awake: KeepAwake | None = None) -> None:
        self._catalog = catalog
        self._options = options
        self._state = pool.State(limits=options.limits)
        self._clock = AwakeClock(time.monotonic)
        self._ids = itertools.count(1)
        self._tickets: dict[int, Ticket] = {}
        self._entries: dict[str, Entry] = {}
        self._runners = Runners(self, self._clock, options.context_limit, options.spare, options.runner)
        self._awake = awake or KeepAwake()
        self._tasks = Tasks()
        self._changed = asyncio.Event()
        self._counts: dict[str, int] = {"done": 0, "failed": 0, "cancelled": 0, "runner_deaths": 0}
        self._counts |= {"tokens": 0, "prompt_tokens": 0, "cached_tokens": 0}
        self._visits = 0  # requests of many pieces; between two pieces they have no ticket
        self._stopping = False  # no new request is admitted
        self._closed = False  # nothing is

    async def __aenter__(self) -> Self:
        self._tasks.spawn(self._tick())
        for name in self._options.pinned + self._options.preload:
            entry = await asyncio.to_thread(self._catalog.resolve, name)
            self._register(entry)
        for name in self._options.preload:
            self._state.wanted.add((await asyncio.to_thread(self._catalog.resolve, name)).key)
        self._runners.prepare_spare()
        self._settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close(0.0)

    async def close(self, grace: float) -> None:
        """Accept no new request, let the others finish for `grace` seconds, fail the rest, end every runner."""
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while self._tickets or self._visits:
                    await self._next_change()
        self._closed = True
        for ticket in self._tickets.values():
            ticket.fail(stopping())
        await self._tasks.close()
        await self._runners.close()
        await asyncio.to_thread(self._awake.wanted, False)

    # -- Inference ----------------------------------------------------------------------------------------------

    def chat(self, request: ChatRequest) -> AsyncGenerator[Event]:
        return cast(AsyncGenerator[Event], self._run(request, "chat"))

    def complete(self, request: CompletionRequest) -> AsyncGenerator[Event]:
        return cast(AsyncGenerator[Event], self._run(request, "chat"))

    async def tokenize(self, request: Request) -> Tokenized:
        answer = await self._asked(request.model, lambda id: wire.Tokenize(id, request))
        assert isinstance(answer, wire.Tokens)
        return answer.result

    async def detokenize(self, model: str, tokens: Sequence[int]) -> str:
        answer = await self._asked(model, lambda id: wire.Detokenize(id, tuple(tokens)))
        assert isinstance(answer, wire.Detokenized)
        return answer.text

    def hear(self, request: PieceRequest) -> AsyncGenerator[Started | Delta | PieceDone]:
        """A piece of a recording, written down."""
        return cast(AsyncGenerator[Started | Delta | PieceDone], self._run(request, "transcription", is_piece=True))

    def place(self, request: AlignmentRequest) -> AsyncGenerator[Started | AlignmentDone]:
        """When the words of a piece are spoken."""
        return cast(AsyncGenerator[Started | AlignmentDone], self._run(request, "alignment", is_piece=True))

    def utter(self, request: UtteranceRequest) -> AsyncGenerator[Started | Sound | UtteranceDone]:
        """A sentence or so, spoken."""
        return cast(AsyncGenerator[Started | Sound | UtteranceDone], self._run(request, "speech", is_piece=True))

    @contextlib.contextmanager
    def visit(self) -> Iterator[None]:
        """Around a request of many pieces. It is refused when the server stops; one that came before is waited for,
        and its further pieces are admitted."""
        self._refuse_when_stopping()
        self._visits += 1
        try:
            yield
        finally:
            self._visits -= 1
            self._announce()

    async def _run(
        self, request: wire.Work, capability: Capability, is_piece: bool = False
    ) -> AsyncGenerator[Happening]:
        ticket = await self._admit(request.model, capability, request, is_piece)
        outcome = "cancelled"
        try:
            arrived = self._clock.now
            if (fault := pool.left_alone(self._state, ticket.entry.key, arrived)) is not None:
                raise fault
            await self._ask(ticket, wire.Prepare(ticket.id, request))
            pool.arrive(self._state, pool.Job(ticket.id, ticket.entry.key, ticket.kv_bytes, arrived))
            self._settle()
            async for event in ticket.events(arrived, self._clock):
                if isinstance(event, wire.End):
                    outcome = "done"
                    self._count(event.usage)
                yield event
        except ServiceError:
            outcome = "failed"
            raise
        finally:
            self._leave(ticket, outcome)

    def models(self) -> Sequence[ModelStatus]:
        return [model_status(item, self._state) for item in self._catalog.entries()]

    def model(self, name: str) -> ModelStatus:
        for status in self.models():
            if name.casefold() in (known.casefold() for known in status.names):
                return status
        return model_status(self._catalog.resolve(name), self._state)

    async def load(self, model: str) -> None:
        self._refuse_when_stopping()
        entry = await asyncio.to_thread(self._catalog.resolve, model)
        self._register(entry)
        if (error := pool.never_fits(self._state, entry.key)) is not None:
            raise error
        known = self._state.faults.get(entry.key)
        self._state.wanted.add(entry.key)
        self._settle()
        while self._phase(entry.key) != "ready":
            if (fault := self._state.faults.get(entry.key)) is not None and fault is not known:
                self._state.wanted.discard(entry.key)
                raise LoadFailed(fault.reason, retry_after=max(1.0, fault.not_before - self._clock.now))
            await self._next_change()

    async def unload(self, model: str) -> None:
        entry = await asyncio.to_thread(self._catalog.resolve, model)
        self._state.wanted.discard(entry.key)
        if entry.key in self._state.residents:
            pool.ask_unload(self._state, entry.key)
            self._settle()
        while self._phase(entry.key) in ("ready", "unloading"):
            await self._next_change()

    def health(self) -> Health:
        faults = {key: fault for key, fault in self._state.faults.items() if key in self._entries}
        late = [worker.key for worker in self._runners if self._verdict(worker) != "well"]
        problems = [f"{self._main_name(key)}: {fault.reason}" for key, fault in faults.items()]
        problems += [f"{self._main_name(key)}: no step for more than 10 s" for key in late]
        # One death is told and mended by the next request; a second in a row is a loop.
        return Health(not late and all(fault.count < 2 for fault in faults.values()), tuple(problems))

    def metrics(self) -> Sequence[Metric]:
        return list(metrics(self._state, self._counts, self._main_name))

    # -- the life of a request ----------------------------------------------------------------------------------

    async def _admit(
        self, model: str, capability: Capability, request: wire.Work | None, is_piece: bool = False
    ) -> Ticket:
        self._refuse_when_stopping(is_piece)
        entry = await asyncio.to_thread(self._catalog.resolve, model, capability)
        self._refuse_when_stopping(is_piece)  # from here to the ticket nothing else can happen
        self._register(entry)
        ticket = Ticket(next(self._ids), entry, request)
        self._tickets[ticket.id] = ticket
        return ticket

    async def _asked(self, model: str, command: Callable[[int], Question]) -> wire.Answer:
        """What the model's tokenizer says; its weights aren't needed."""
        ticket = await self._admit(model, "chat", None)
        try:
            return await self._ask(ticket, command(ticket.id))
        finally:
            self._forget(ticket)

    async def _ask(self, ticket: Ticket, question: Question) -> wire.Answer:
        """Once more if the runner dies over it: it may have been on its way out."""
        try:
            return await ticket.ask(await self._runners.open(ticket.entry), question, self._clock.now)
        except RunnerDied:
            return await ticket.ask(await self._runners.open(ticket.entry), question, self._clock.now)

    def _count(self, usage: Usage) -> None:
        self._counts["tokens"] += usage.completion_tokens
        self._counts["prompt_tokens"] += usage.prompt_tokens
        self._counts["cached_tokens"] += usage.cached_tokens

    def _leave(self, ticket: Ticket, outcome: str) -> None:
        """The one place where a request ends, however it does."""
        self._forget(ticket)
        self._counts[outcome] += 1
        if ticket.worker is not None:
            if outcome != "done":
                ticket.worker.send(wire.Cancel(ticket.id))  # also of what is only prepared
        pool.finished(self._state, ticket.id, self._clock.now, well=outcome == "done")
        self._settle()

    def _forget(self, ticket: Ticket) -> None:
        del self._tickets[ticket.id]
        if ticket.worker is not None:
            ticket.worker.last_used = self._clock.now

    # -- effects of the pool ------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Carry out what the pool decides, until it decides nothing more. Never blocks."""
        if not self._closed:
            while effects := [e for e in pool.decide(self._state, self._clock.now) if not isinstance(e, pool.WakeAt)]:
                for effect in effects:
                    pool.apply(self._state, effect, self._clock.now)
                    self._carry_out(effect)
        self._share_device()
        self._announce()

    def _share_device(self) -> None:
        """Tell each runner whether it is to take turns, by what is at work in all of them."""
        at_work = {self._does(key) for key, resident in self._state.residents.items() if resident.running}
        for worker in self._runners:
            worker.take_turns(turns.are_taken(self._does(worker.key), at_work))

    def _carry_out(self, effect: pool.Load | pool.Resize | pool.Unload | pool.Start | pool.Refuse) -> None:
        match effect:
            case pool.Load():
                self._tasks.spawn(self._load(self._entries[effect.model], effect.lease))
            case pool.Resize():
                self._resize(effect.model, effect.lease)
            case pool.Unload():
                self._unload(effect.model)
            case pool.Start():
                self._tasks.spawn(self._start(self._tickets[effect.job.id]))
            case pool.Refuse():
                self._tickets[effect.job.id].fail(effect.error)
            case _:
                assert_never(effect)

    async def _load(self, entry: Entry, lease: int) -> None:
        try:
            worker = await self._runners.open(entry)
        except RunnerDied:
            return  # `ended` has told the pool
        except ServiceError as error:
            pool.load_failed(self._state, entry.key, error.message, self._clock.now)
            self._settle()
            return
        if (resident := self._state.residents.get(entry.key)) is not None:
            worker.work_begins(self._clock.now)
            worker.send(wire.Load(lease, resident.kv_room))

    def _resize(self, key: str, lease: int) -> None:
        if (worker := self._runners.get(key)) is not None:
            worker.send(wire.Resize(lease, self._state.residents[key].kv_room))

    def _unload(self, key: str) -> None:
        if (worker := self._runners.get(key)) is not None:
            worker.kill()

    async def _start(self, ticket: Ticket) -> None:
        """Hand a request to its model's runner; prepared again if that is not the one that prepared it."""
        trace.current.set(ticket.trace)
        worker = self._runners.get(ticket.entry.key)
        if worker is None:
            return  # it died in between: the request was requeued or failed with it
        if ticket.worker is not worker and ticket.request is not None:
            try:
                await self._ask(ticket, wire.Prepare(ticket.id, ticket.request))
            except ServiceError as error:
                ticket.fail(error)
                return
            if self._runners.get(ticket.entry.key) is not worker:
                return
        if not self._busy_but(ticket):
            worker.work_begins(self._clock.now)
        ticket.start(worker)

    # -- what runners say (`runners.Listener`) ------------------------------------------------------------------

    def heard(self, worker: Worker, report: Heard) -> None:
        match report:
            case wire.Loaded():
                pool.loaded(self._state, worker.key, self._clock.now)
                self._settle()
            case wire.LoadFailed():
                pool.load_failed(self._state, worker.key, report.failure.message, self._clock.now)
                worker.kill()
                self._settle()
            case _:
                if (ticket := self._tickets.get(report.id)) is not None:
                    ticket.deliver(report)

    def ended(self, worker: Worker, reason: str, expected: bool) -> None:
        if expected:
            pool.unloaded(self._state, worker.key)
            jobs = {}
        else:
            self._counts["runner_deaths"] += 1
            jobs = {job.id: job for job in pool.died(self._state, worker.key, reason, self._clock.now)}
        self._give_back(worker, reason, jobs)
        self._settle()

    def _give_back(self, worker: Worker, reason: str, jobs: Mapping[int, pool.Job]) -> None:
        """Requests of a runner that is gone: what has sent nothing is tried once more; what waits, waits on."""
        waiting = {job.id for job in self._state.queue}
        for ticket in [ticket for ticket in self._tickets.values() if ticket.worker is worker]:
            job = jobs.get(ticket.id)
            ticket.worker = None
            if job is not None and not ticket.sent and job.attempts == 0 and not ticket.asking:
                log.warning("request %s is tried once more: %s", ticket.trace, reason)
                pool.requeue(self._state, job)
            elif ticket.id not in waiting:
                log.warning("request %s fails: %s", ticket.trace, reason)
                message = f"{reason} Try again: the model is loaded anew."
                ticket.fail(RunnerDied(message, retry_after=RETRY_SECONDS))

    def device(self, recommended_bytes: int) -> None:
        if 0 < recommended_bytes < self._state.limits.budget:
            pool.set_budget(self._state, recommended_bytes)
            self._settle()

    async def _tick(self) -> None:
        """Time passes: the pool's wishes that come due, hung runners, runners that were opened and not used."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = self._clock.tick()
            for worker in self._runners:
                if self._verdict(worker) == "stuck" or not self._answers(worker, now):
                    self._end_hung(worker)
                used = worker.key in self._state.residents or any(
                    ticket.entry.key == worker.key for ticket in self._tickets.values()
                )
                if not used and now - worker.last_used > OPEN_IDLE_SECONDS:
                    worker.kill()
            await asyncio.to_thread(self._awake.wanted, bool(self._tickets or self._visits))
            self._settle()

    def _answers(self, worker: Worker, now: float) -> bool:
        """Whether its tokenizer opens and answers, as far as anybody waits for it."""
        asked = [ticket.asked_at for ticket in self._tickets.values() if ticket.worker is worker and ticket.asking]
        return all(answers(since, now) for since in (asked if worker.opened.done() else [worker.since]))

    def _end_hung(self, worker: Worker) -> None:
        log.error("the runner of %s hangs and is ended", self._main_name(worker.key))
        for ticket in self._tickets.values():
            if ticket.worker is worker and ticket.sent:
                log.error("request %s fails with it", ticket.trace)
                ticket.fail(Stalled("The model hangs and is loaded anew. Try again.", retry_after=RETRY_SECONDS))
        worker.process.kill()

    # -- small questions ----------------------------------------------------------------------------------------

    def _register(self, entry: Entry) -> None:
        seen = entry.checkpoint
        wish = seen.kv_wish(self._options.context_limit)
        pinned = any(name.casefold() in (p.casefold() for p in self._options.pinned) for name in entry.names)
        self._entries[entry.key] = entry
        pool.register(self._state, pool.Spec(entry.key, seen.weights_bytes + WORK_SPACE, wish, pinned))

    def _refuse_when_stopping(self, is_piece: bool = False) -> None:
        if self._closed or (self._stopping and not is_piece):
            raise stopping()

    def _busy_but(self, ticket: Ticket) -> bool:
        resident = self._state.residents.get(ticket.entry.key)
        return resident is not None and any(id != ticket.id for id in resident.running)

    def _verdict(self, worker: Worker) -> Literal["well", "late", "stuck"]:
        resident = self._state.residents.get(worker.key)
        busy = resident is not None and bool(resident.running)
        return verdict(worker.facts(busy, self._phase(worker.key) == "loading"), self._clock.now)

    def _does(self, key: str) -> Capability | None:
        entry = self._entries.get(key)
        return entry.checkpoint.capability if entry is not None else None

    def _phase(self, key: str) -> str:
        resident = self._state.residents.get(key)
        return resident.phase if resident is not None else "unloaded"

    def _main_name(self, key: str) -> str:
        entry = self._entries.get(key)
        return entry.names[0] if entry is not None else key

    def _announce(self) -> None:
        """Wake whoever waits in `_next_change`."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _next_change(self) -> None:
        await self._changed.wait()
