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
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence
from typing import assert_never

import msgspec

from engines import pool, wire
from engines.awake import KeepAwake
from engines.catalog import Catalog, Entry, NotInstalled
from engines.clock import AwakeClock
from engines.errors import LoadFailed, RunnerDied, ServiceError, ShuttingDown, Stalled
from engines.process import RunnerProcess
from engines.types import ChatRequest, Delta, Done, Event, Health, Metric, ModelStatus, Started, Timings
from engines.watchdog import verdict
from engines.worker import Worker

CREDIT = 64
TICK_SECONDS = 0.25
OPEN_IDLE_SECONDS = 30.0
RESERVED_TOKENS = 1024
WORK_SPACE = 256 * 1024 * 1024

log = logging.getLogger("runtime")


class Options(msgspec.Struct, frozen=True):
    """What the runtime needs to know of the configuration; model names as clients write them."""

    limits: pool.Limits
    context_limit: int = 32768
    pinned: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    spare: bool = False
    runner: tuple[str, ...] = ("-P", "-m", "engines.runner")


class Ticket:
    """One request on its way: what it is, where it was prepared, and what came for it."""

    def __init__(self, id: int, request: ChatRequest, entry: Entry) -> None:
        self.id = id
        self.request = request
        self.entry = entry
        self.worker: Worker | None = None
        self.inbox: asyncio.Queue[wire.Report | ServiceError | Started] = asyncio.Queue()
        self.sent = False
        self.attempts = 0
        self.prompt_tokens = 0
        self.reserved_tokens = 0


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
        self._workers: dict[str, Worker] = {}
        self._spare: RunnerProcess | None = None
        self._awake = awake or KeepAwake()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._counts: dict[str, int] = {"done": 0, "failed": 0, "cancelled": 0, "runner_deaths": 0, "tokens": 0}
        self._closing = False

    async def __aenter__(self) -> "Runtime":
        self._spawn(self._tick())
        for name in self._options.pinned + self._options.preload:
            entry = await asyncio.to_thread(self._catalog.resolve, name)
            self._register(entry)
        for name in self._options.preload:
            self._state.wanted.add((await asyncio.to_thread(self._catalog.resolve, name)).key)
        self._spawn(self._prepare_spare())
        self._settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close(0.0)

    async def close(self, grace: float) -> None:
        """Accept nothing more, let requests finish for `grace` seconds, fail the rest, end every runner."""
        self._closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while self._tickets:
                    await self._next_change()
        for ticket in self._tickets.values():
            ticket.inbox.put_nowait(ShuttingDown("The server is stopping; try again when it is back."))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        processes = [worker.process for worker in self._workers.values()]
        processes += [self._spare] if self._spare is not None else []
        for process in processes:
            process.kill()
        await asyncio.gather(*(process.ended() for process in processes))
        self._workers.clear()
        self._awake.wanted(False)

    # -- Inference ----------------------------------------------------------------------------------------------

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Event]:
        self._refuse_when_closing()
        entry = await asyncio.to_thread(self._catalog.resolve, request.model)
        self._register(entry)
        ticket = Ticket(next(self._ids), request, entry)
        self._tickets[ticket.id] = ticket
        outcome = "cancelled"
        try:
            arrived = self._clock.now
            await self._prepare(ticket)
            self._enqueue(ticket, arrived)
            async for event in self._events(ticket, arrived):
                if isinstance(event, Done):
                    outcome = "done"
                yield event
        except ServiceError:
            outcome = "failed"
            raise
        finally:
            self._leave(ticket, outcome)

    def models(self) -> Sequence[ModelStatus]:
        return [self._status(item) for item in self._catalog.entries()]

    def model(self, name: str) -> ModelStatus:
        for status in self.models():
            if name.casefold() in (known.casefold() for known in status.names):
                return status
        return self._status(self._catalog.resolve(name))

    async def load(self, model: str) -> None:
        self._refuse_when_closing()
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
        problems = [f"{self._main_name(key)}: {fault.reason}" for key, fault in self._state.faults.items()]
        for key, worker in self._workers.items():
            if verdict(worker.facts(self._is_busy(key), self._phase(key) == "loading"), self._clock.now) != "well":
                problems.append(f"{self._main_name(key)}: no step for more than 10 s")
        return Health(not problems, tuple(problems))

    def metrics(self) -> Sequence[Metric]:
        return list(self._metrics())

    # -- the life of a request ----------------------------------------------------------------------------------

    async def _prepare(self, ticket: Ticket) -> None:
        """Have the prompt rendered and encoded by the model's runner; raises what is wrong with it.

        Once more if the runner dies over it: it may have been on its way out.
        """
        try:
            prepared = await self._prepared(ticket)
        except RunnerDied:
            prepared = await self._prepared(ticket)
        ticket.prompt_tokens = prepared.prompt_tokens
        ticket.reserved_tokens = prepared.prompt_tokens + min(prepared.max_tokens, RESERVED_TOKENS)

    async def _prepared(self, ticket: Ticket) -> wire.Prepared:
        ticket.worker = await self._open(ticket.entry)
        ticket.worker.send(wire.Prepare(ticket.id, ticket.request))
        answer = await ticket.inbox.get()
        if isinstance(answer, ServiceError):
            raise answer
        if isinstance(answer, wire.Failed):
            raise answer.failure.error()
        assert isinstance(answer, wire.Prepared), answer
        return answer

    def _enqueue(self, ticket: Ticket, arrived: float) -> None:
        seen = ticket.entry.checkpoint
        kv_bytes = seen.kv_bytes_fixed + seen.kv_bytes_per_token * ticket.reserved_tokens
        pool.arrive(self._state, pool.Job(ticket.id, ticket.entry.key, kv_bytes, arrived))
        self._settle()

    async def _events(self, ticket: Ticket, arrived: float) -> AsyncGenerator[Event]:
        queued = 0.0
        taken = 0
        while True:
            item = await ticket.inbox.get()
            match item:
                case Started():
                    queued = self._clock.now - arrived
                    yield item
                case wire.Text():
                    yield Delta(item.text)
                    taken += 1
                    if taken % (CREDIT // 2) == 0 and ticket.worker is not None:
                        ticket.worker.send(wire.Credit(ticket.id, CREDIT // 2))
                case wire.Finished():
                    self._counts["tokens"] += item.usage.completion_tokens
                    yield Done(item.finish_reason, item.usage, Timings(queued, item.prefill, item.decode))
                    return
                case wire.Failed():
                    raise item.failure.error()
                case ServiceError():
                    raise item
                case _:
                    raise AssertionError(item)

    def _leave(self, ticket: Ticket, outcome: str) -> None:
        """The one place where a request ends, however it does."""
        del self._tickets[ticket.id]
        self._counts[outcome] += 1
        if outcome == "cancelled" and ticket.worker is not None:
            ticket.worker.send(wire.Cancel(ticket.id))
        if ticket.worker is not None:
            ticket.worker.last_used = self._clock.now
        pool.finished(self._state, ticket.id, self._clock.now, well=outcome == "done")
        self._settle()

    # -- effects of the pool ------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Carry out what the pool decides, until it decides nothing more. Never blocks."""
        if not self._closing:
            while effects := [e for e in pool.decide(self._state, self._clock.now) if not isinstance(e, pool.WakeAt)]:
                for effect in effects:
                    pool.apply(self._state, effect, self._clock.now)
                    self._carry_out(effect)
        self._changed.set()
        self._changed = asyncio.Event()

    def _carry_out(self, effect: pool.Load | pool.Unload | pool.Start | pool.Refuse) -> None:
        match effect:
            case pool.Load():
                self._spawn(self._load(self._entries[effect.model], effect.lease))
            case pool.Unload():
                self._workers[effect.model].kill()
            case pool.Start():
                self._spawn(self._start(self._tickets[effect.job.id]))
            case pool.Refuse():
                self._tickets[effect.job.id].inbox.put_nowait(effect.error)
            case _:
                assert_never(effect)

    async def _load(self, entry: Entry, lease: int) -> None:
        try:
            worker = await self._open(entry)
        except ServiceError as error:
            pool.load_failed(self._state, entry.key, error.message, self._clock.now)
            self._settle()
            return
        worker.work_begins(self._clock.now)
        worker.send(wire.Load(lease))

    async def _start(self, ticket: Ticket) -> None:
        """Hand a request to its model's runner; prepared again if that is not the one that prepared it."""
        worker = self._workers.get(ticket.entry.key)
        if worker is None or worker.stopping:
            return  # it died in between: the request was requeued or failed with it
        if ticket.worker is not worker:
            try:
                await self._prepare(ticket)
            except ServiceError as error:
                ticket.inbox.put_nowait(error)
                return
        if not self._busy_but(ticket):
            worker.work_begins(self._clock.now)
        ticket.inbox.put_nowait(Started(ticket.entry.names[0], ticket.prompt_tokens))
        worker.send(wire.Submit(ticket.id, CREDIT))

    # -- runners ------------------------------------------------------------------------------------------------

    async def _open(self, entry: Entry) -> Worker:
        """The model's runner with its tokenizer open; started if there is none, or the last is being ended."""
        while (worker := self._workers.get(entry.key)) is not None and worker.stopping:
            await self._next_change()
        if worker is None:
            worker = Worker(entry.key, await self._new_process(), self._clock.now)
            if (other := self._workers.get(entry.key)) is not None:
                worker.kill()
                await worker.process.ended()
                worker = other
            else:
                self._workers[entry.key] = worker
                worker.send(wire.Open(entry.checkpoint.folder, self._options.context_limit))
                self._spawn(self._follow(worker))
        await asyncio.shield(worker.opened)
        worker.last_used = self._clock.now
        return worker

    async def _new_process(self) -> RunnerProcess:
        """The spare, if it is ready, so that its imports cost nobody's time; the next spare follows later."""
        spare, self._spare = self._spare, None
        if spare is not None:
            self._spawn(self._prepare_spare())
            if spare.alive:
                return spare
        return await RunnerProcess.start(self._options.runner)

    async def _prepare_spare(self) -> None:
        """Start a spare; its first message tells what the device can hold."""
        if not self._options.spare or self._closing:
            return
        spare = await RunnerProcess.start(self._options.runner)
        try:
            hello = await spare.hello()
        except asyncio.CancelledError:
            spare.kill()
            raise
        if hello is None or self._spare is not None or self._closing:
            spare.kill()
            await spare.ended()
            return
        self._spare = spare
        if 0 < hello.device_bytes < self._state.limits.budget:
            pool.set_budget(self._state, hello.device_bytes)
            self._settle()

    async def _follow(self, worker: Worker) -> None:
        """Take in what a runner says, for its whole life."""
        async for report in worker.process.reports():
            match report:
                case wire.Opened():
                    worker.opened.set_result(None)
                case wire.OpenFailed():
                    worker.opened.set_exception(report.failure.error())
                    worker.kill()
                case wire.Loaded():
                    worker.active_bytes = report.active_bytes
                    pool.loaded(self._state, worker.key, self._clock.now)
                    self._settle()
                case wire.LoadFailed():
                    pool.load_failed(self._state, worker.key, report.failure.message, self._clock.now)
                    worker.kill()
                    self._settle()
                case wire.Beat():
                    worker.beat(report, self._clock.now)
                case wire.Text() | wire.Finished() | wire.Failed() | wire.Prepared():
                    self._deliver(report)
                case wire.Hello():
                    log.info("runner %d on %s serves %s", report.pid, report.device, self._main_name(worker.key))
                case _:
                    assert_never(report)
        await self._ended(worker)

    def _deliver(self, report: wire.Text | wire.Finished | wire.Failed | wire.Prepared) -> None:
        if (ticket := self._tickets.get(report.id)) is not None:
            ticket.sent = ticket.sent or isinstance(report, wire.Text)
            ticket.inbox.put_nowait(report)

    async def _ended(self, worker: Worker) -> None:
        """A runner is gone: as was decided, or by itself."""
        worker.process.kill()
        status = await worker.process.ended()
        if self._workers.get(worker.key) is worker:
            del self._workers[worker.key]
        expected = worker.stopping
        worker.stopping = True
        how = f"signal {-status}" if status < 0 else f"status {status}"
        reason = f"The model's process ended ({how})."
        if not worker.opened.done():
            worker.opened.set_exception(RunnerDied(f"{reason} Try again."))
            worker.opened.exception()  # nobody may be waiting
        if expected:
            pool.unloaded(self._state, worker.key)
        else:
            log.error("the runner of %s ended by itself, %s", self._main_name(worker.key), how)
            self._counts["runner_deaths"] += 1
            self._after_death(worker, reason)
        self._settle()

    def _after_death(self, worker: Worker, reason: str) -> None:
        """Requests that have sent nothing are tried once more; the others fail."""
        jobs = {job.id: job for job in pool.died(self._state, worker.key, reason, self._clock.now)}
        queued = {job.id for job in self._state.queue}
        for ticket in [t for t in self._tickets.values() if t.worker is worker]:
            job = jobs.get(ticket.id)
            if job is not None and not ticket.sent and job.attempts == 0:
                ticket.worker = None
                pool.requeue(self._state, job)
            elif ticket.id not in queued:
                ticket.inbox.put_nowait(RunnerDied(f"{reason} Try again: the model is loaded anew."))

    async def _tick(self) -> None:
        """Time passes: the pool's wishes that come due, hung runners, runners that were opened and not used."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = self._clock.tick()
            for key, worker in list(self._workers.items()):
                if verdict(worker.facts(self._is_busy(key), self._phase(key) == "loading"), now) == "stuck":
                    self._end_hung(worker)
                used = key in self._state.residents or any(t.entry.key == key for t in self._tickets.values())
                if not used and now - worker.last_used > OPEN_IDLE_SECONDS:
                    worker.kill()
            self._awake.wanted(bool(self._tickets))
            self._settle()

    def _end_hung(self, worker: Worker) -> None:
        log.error("the runner of %s hangs and is ended", self._main_name(worker.key))
        for ticket in self._tickets.values():
            if ticket.worker is worker and ticket.sent:
                ticket.inbox.put_nowait(Stalled("The model hangs and is loaded anew. Try again."))
        worker.process.kill()

    # -- small questions ----------------------------------------------------------------------------------------

    def _register(self, entry: Entry) -> None:
        seen = entry.checkpoint
        wish = seen.kv_bytes_fixed + seen.kv_bytes_per_token * min(
            self._options.context_limit, seen.context_length or self._options.context_limit
        )
        pinned = any(name.casefold() in (p.casefold() for p in self._options.pinned) for name in entry.names)
        self._entries[entry.key] = entry
        pool.register(self._state, pool.Spec(entry.key, seen.weights_bytes + WORK_SPACE, wish, pinned))

    def _refuse_when_closing(self) -> None:
        if self._closing:
            raise ShuttingDown("The server is stopping; try again when it is back.")

    def _busy_but(self, ticket: Ticket) -> bool:
        resident = self._state.residents.get(ticket.entry.key)
        return resident is not None and any(id != ticket.id for id in resident.running)

    def _is_busy(self, key: str) -> bool:
        resident = self._state.residents.get(key)
        return resident is not None and bool(resident.running)

    def _phase(self, key: str) -> str:
        resident = self._state.residents.get(key)
        return resident.phase if resident is not None else "unloaded"

    def _main_name(self, key: str) -> str:
        entry = self._entries.get(key)
        return entry.names[0] if entry is not None else key

    def _status(self, item: Entry | NotInstalled) -> ModelStatus:
        if isinstance(item, NotInstalled):
            return ModelStatus((item.name, item.repository), "chat", "unloaded", installed=False)
        resident = self._state.residents.get(item.key)
        fault = self._state.faults.get(item.key)
        return ModelStatus(
            names=item.names,
            capability="chat",
            phase=resident.phase if resident is not None else "failed" if fault is not None else "unloaded",
            installed=not item.checkpoint.missing,
            running=len(resident.running) if resident is not None else 0,
            waiting=sum(job.model == item.key for job in self._state.queue),
            lease_bytes=resident.lease if resident is not None else 0,
            detail=fault.reason if fault is not None else ", ".join(item.checkpoint.missing),
        )

    def _metrics(self) -> Iterator[Metric]:
        for outcome in ("done", "failed", "cancelled"):
            labels = (("outcome", outcome),)
            yield Metric("mlx_local_requests_total", "counter", "Requests that ended", self._counts[outcome], labels)
        yield Metric("mlx_local_tokens_total", "counter", "Tokens generated", self._counts["tokens"])
        yield Metric("mlx_local_runner_deaths_total", "counter", "Runners that died", self._counts["runner_deaths"])
        yield Metric("mlx_local_queue_length", "gauge", "Requests that wait", len(self._state.queue))
        for key, resident in self._state.residents.items():
            labels = (("model", self._main_name(key)),)
            yield Metric("mlx_local_running", "gauge", "Requests in work", len(resident.running), labels)
            yield Metric("mlx_local_lease_bytes", "gauge", "Memory granted to a model", resident.lease, labels)

    async def _next_change(self) -> None:
        await self._changed.wait()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the runtime failed", exc_info=error)
