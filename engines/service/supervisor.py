"""Carries out what the pool decides: loads and unloads models, starts and refuses requests, tells it what came of it.

The pool (`pool/`) decides from its state, which is kept here. Everything happens on one event loop.
"""

import logging
from collections.abc import Collection, Mapping
from typing import assert_never

from engines.host.clock import AwakeClock
from engines.host.system import Host
from engines.ipc import runner_protocol
from engines.ipc.job import Cancel
from engines.ipc.tasks import Tasks
from engines.ipc.unread import TOO_SLOW, Unread, to_end
from engines.models.catalog import Entry
from engines.service import pool
from engines.service.admission import Admission
from engines.service.condition import Condition
from engines.service.options import RuntimeOptions
from engines.service.priority import Rank, rank, sharing
from engines.service.request_state import Question, RequestState
from engines.service.runner_handle import RunnerHandle
from engines.service.runners import Heard, Runners
from engines.types import trace
from engines.types.common import Capability, Priority
from engines.types.errors import CheckpointUnusable, ClientTooSlow, LoadFailed, RunnerDied, ServiceError, stopping
from engines.types.streams import retry_on_death

RETRY_SECONDS = 1.0

log = logging.getLogger("runtime")


class Supervisor:
    """Owns the pool's `state` and the `runners`, for others to look at. `deaths` counts runners that weren't told to
    end."""

    def __init__(self, options: RuntimeOptions, clock: AwakeClock, admission: Admission) -> None:
        self._options = options
        self._clock = clock
        self._admission = admission
        self._entries: dict[str, Entry] = {}
        self._tasks = Tasks()
        self._changes = Condition()
        self.state = pool.State(limits=options.limits)
        self.runners = Runners(self, clock, options.context_limit, options.spare, options.runner)
        self.deaths = 0
        self.on_gpu = Host().computes_on_gpu  # until a runner says what it computes on

    async def close(self) -> None:
        """End every runner. Whoever waits for a model to be loaded is told that the server stops."""
        self._changes.announce()
        await self._tasks.close()
        await self.runners.close()

    # -- what is wanted -----------------------------------------------------------------------------------------

    def register(self, entry: Entry) -> None:
        """A model that may be asked for: what it needs, and whether it stays."""
        seen = entry.checkpoint
        wish = seen.kv_wish(self._options.context_limit)
        pinned = any(name.casefold() in (p.casefold() for p in self._options.pinned) for name in entry.names)
        before, self._entries[entry.key] = self._entries.get(entry.key), entry
        if seen.sampling.refused and before != entry:
            refused = ", ".join(seen.sampling.refused)
            log.warning("generation_config.json of %s: %s is out of range and not obeyed", entry.names[0], refused)
        fault = self.state.faults.get(entry.key)
        if fault is not None and fault.refusal is not None and before != entry:
            pool.forgive(self.state, entry.key)
        pool.register(self.state, pool.Spec(entry.key, seen.weights_bytes + seen.work_bytes, wish, pinned))

    async def ask(self, ticket: RequestState, question: Question) -> runner_protocol.Answer:
        """What the model's tokenizer says; its weights aren't needed. Once more if the runner dies over it: it may have
        been on its way out."""

        async def ask() -> runner_protocol.Answer:
            return await ticket.ask(await self.runners.open(ticket.entry), question, self._clock.now)

        return await retry_on_death(ask)

    def queue(self, ticket: RequestState, arrived: float, priority: Priority, modest: bool = False) -> None:
        """A request that its runner has prepared waits, to be started or refused."""
        job = pool.Job(ticket.id, ticket.entry.key, ticket.kv_bytes, arrived, modest=modest, priority=priority)
        pool.arrive(self.state, job)
        self.settle()

    def leave(self, ticket: RequestState, *, well: bool) -> None:
        """A request is over, wherever it was."""
        if ticket.worker is not None and not well:
            ticket.worker.send(Cancel(ticket.id))  # also of what is only prepared
        pool.finished(self.state, ticket.id, self._clock.now, well=well)
        self.settle()

    def end_unread(self) -> None:
        """Free the places of clients that don't read, as far as others wait for them."""
        tickets = self._admission.tickets
        running = [id for resident in self.state.residents.values() for id in resident.running if id in tickets]
        for id in running:
            tickets[id].look(self._clock.now)
        unread = [
            Unread(id, tickets[id].entry.key, since)
            for id in running
            if (since := tickets[id].unread_since) is not None
        ]
        for id in to_end(unread, pool.held_up(self.state), self._clock.now):
            log.warning("request %s fails: its client has read nothing for long, and others wait", tickets[id].trace)
            tickets[id].fail(ClientTooSlow(TOO_SLOW))
            self.leave(tickets[id], well=False)

    def want(self, entry: Entry) -> None:
        """To be loaded without a request, with the next `settle`."""
        self.state.wanted.add(entry.key)

    async def load(self, entry: Entry) -> None:
        """Until it is ready, or has been: with `idle_unload` 0 it is unloaded at once. Raises what prevents that."""
        if (error := pool.never_fits(self.state, entry.key)) is not None:
            raise error
        known = self.state.faults.get(entry.key)
        if known is not None and known.refusal is not None:
            raise known.refusal
        self.want(entry)
        self.settle()
        begun = False
        while self.phase(entry.key) != "ready":
            begun = begun or self.phase(entry.key) == "loading"
            if self._admission.closed:
                raise stopping()
            if (fault := self.state.faults.get(entry.key)) is not None and fault is not known:
                self.state.wanted.discard(entry.key)
                raise fault.refusal or LoadFailed(
                    fault.reason, retry_after=max(1.0, fault.not_before - self._clock.now)
                )
            if entry.key not in self.state.wanted and self.phase(entry.key) != "loading":
                if begun:
                    return
                raise LoadFailed("It was asked to unload before there was room to load it. Ask for it again.")
            await self._changes.next()

    async def unload(self, entry: Entry) -> None:
        """Until it is."""
        self.state.wanted.discard(entry.key)
        if entry.key in self.state.residents:
            pool.ask_unload(self.state, entry.key)
            self.settle()
        while self.phase(entry.key) in ("ready", "unloading"):
            await self._changes.next()

    # -- effects of the pool ------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Carry out what the pool decides, until it decides nothing more. Never blocks."""
        if not self._admission.closed:
            while effects := [e for e in pool.decide(self.state, self._clock.now) if not isinstance(e, pool.WakeAt)]:
                for effect in effects:
                    pool.apply(self.state, effect, self._clock.now)
                    self._carry_out(effect)
        self._share_device()
        self._changes.announce()

    def _share_device(self) -> None:
        """Tell each runner how it shares the device, by what runs in all of them."""
        ranks: dict[str, Rank] = {}
        for key, resident in self.state.residents.items():
            found = rank({job.priority for job in resident.running.values()}, self._has_long_steps(key))
            if found is not None:
                ranks[key] = found
        for worker in self.runners:
            worker.share_device(sharing(ranks, worker.key))

    def _has_long_steps(self, key: str) -> bool:
        known = self._entries[key].checkpoint.entry if key in self._entries else None
        return known is not None and known.has_long_steps

    def _carry_out(self, effect: pool.LoadModel | pool.ResizeLease | pool.Unload | pool.Start | pool.Refuse) -> None:
        match effect:
            case pool.LoadModel():
                self._tasks.spawn(self._load(self._entries[effect.model], effect.lease))
            case pool.ResizeLease():
                self._resize(effect.model, effect.lease)
            case pool.Unload():
                self._unload(effect.model)
            case pool.Start():
                self._tasks.spawn(self._start(self._admission.tickets[effect.job.id]))
            case pool.Refuse():
                self._admission.tickets[effect.job.id].fail(effect.error)
            case _:
                assert_never(effect)

    async def _load(self, entry: Entry, lease: int) -> None:
        try:
            worker = await self.runners.open(entry)
        except RunnerDied:
            return  # `ended` has told the pool
        except ServiceError as error:
            self._load_failed(entry.key, error)
            return
        if (resident := self.state.residents.get(entry.key)) is not None:
            worker.work_begins(self._clock.now)
            worker.send(runner_protocol.Load(lease, resident.kv_room, self._options.wired_limit))

    def _resize(self, key: str, lease: int) -> None:
        if (worker := self.runners.get(key)) is not None:
            worker.send(runner_protocol.Resize(lease, self.state.residents[key].kv_room))

    def _unload(self, key: str) -> None:
        if (worker := self.runners.get(key)) is not None:
            worker.kill()

    async def _start(self, ticket: RequestState) -> None:
        """Hand a request to its model's runner; prepared again if that is not the one that prepared it."""
        trace.current.set(ticket.trace)
        worker = self.runners.get(ticket.entry.key)
        if worker is None:
            return  # it died in between: the request was requeued or failed with it
        if ticket.worker is not worker and ticket.request is not None:
            try:
                await self.ask(ticket, runner_protocol.Prepare(ticket.id, ticket.request))
            except ServiceError as error:
                ticket.fail(error)
                return
            if self.runners.get(ticket.entry.key) is not worker:
                return
        if not self._busy_but(ticket):
            worker.work_begins(self._clock.now)
        ticket.start(worker)

    # -- what runners say (`runners.RunnerListener`) ------------------------------------------------------------------

    def heard(self, worker: RunnerHandle, report: Heard) -> None:
        match report:
            case runner_protocol.Loaded():
                pool.loaded(self.state, worker.key, self._clock.now)
                self.settle()
            case runner_protocol.LoadingFailed():
                worker.kill()
                self._load_failed(worker.key, report.failure.error())
            case _:
                if (ticket := self._admission.tickets.get(report.id)) is not None:
                    ticket.deliver(report)

    def _load_failed(self, key: str, error: ServiceError) -> None:
        if isinstance(error, CheckpointUnusable):
            pool.refused(self.state, key, error)
        else:
            pool.load_failed(self.state, key, error.message, self._clock.now)
        self.settle()

    def ended(self, worker: RunnerHandle, reason: str, expected: bool) -> None:
        if expected:
            pool.unloaded(self.state, worker.key)
            jobs = {}
        else:
            self.deaths += 1
            jobs = {job.id: job for job in pool.died(self.state, worker.key, reason, self._clock.now)}
        self._give_back(worker, reason, jobs)
        self.settle()

    def _give_back(self, worker: RunnerHandle, reason: str, jobs: Mapping[int, pool.Job]) -> None:
        """Requests of a runner that is gone: what has sent nothing is tried once more; what waits, waits on."""
        waiting = {job.id for job in self.state.queue}
        for ticket in [ticket for ticket in self._admission.tickets.values() if ticket.worker is worker]:
            job = jobs.get(ticket.id)
            ticket.worker = None
            if job is not None and not ticket.sent and job.attempts == 0 and not ticket.asking:
                log.warning("request %s is tried once more: %s", ticket.trace, reason)
                pool.requeue(self.state, job)
            elif ticket.id not in waiting:
                log.warning("request %s fails: %s", ticket.trace, reason)
                message = f"{reason} Try again: the model is loaded anew."
                ticket.fail(RunnerDied(message, retry_after=RETRY_SECONDS))

    def device(self, recommended_bytes: int) -> None:
        self.on_gpu = self.on_gpu or recommended_bytes > 0
        limits = self.state.limits
        ceiling = min(recommended_bytes, limits.ceiling) if limits.ceiling else recommended_bytes
        if 0 < ceiling != limits.ceiling:
            if ceiling < limits.budget:
                log.info("models get %.1f GB: the device recommends no more", ceiling / 1e9)
            pool.set_ceiling(self.state, ceiling)
            self.settle()

    # -- small questions ----------------------------------------------------------------------------------------

    def phase(self, key: str) -> str:
        resident = self.state.residents.get(key)
        return resident.phase if resident is not None else "unloaded"

    @property
    def known(self) -> Collection[str]:
        """The models that were ever asked for."""
        return self._entries.keys()

    def entry(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def main_name(self, key: str) -> str:
        entry = self._entries.get(key)
        return entry.names[0] if entry is not None else key

    def _busy_but(self, ticket: RequestState) -> bool:
        resident = self.state.residents.get(ticket.entry.key)
        return resident is not None and any(id != ticket.id for id in resident.running)

    def does(self, key: str) -> Capability | None:
        """What a model can, None if it isn't known."""
        entry = self._entries.get(key)
        return entry.checkpoint.capability if entry is not None else None
