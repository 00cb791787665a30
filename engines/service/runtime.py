"""One request to one model: its life, from its name to its last event, over one runner process a model.

One event loop owns everything here. A request's prompt is prepared by its model's runner before it queues, so what is
wrong with it is known before anything is loaded or unloaded for it.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Self, overload

import msgspec

from engines.host.awake import KeepAwake
from engines.host.clock import AwakeClock
from engines.host.conditions import Conditions, Sensors
from engines.host.system import Host
from engines.ipc import job, runner_protocol
from engines.models import checkpoint, sampling_defaults
from engines.models.catalog import Catalog, Entry, NotInstalled
from engines.service import pool, status
from engines.service.admission import Admission
from engines.service.background import Background
from engines.service.health_loop import HealthLoop
from engines.service.options import RuntimeOptions
from engines.service.request_state import Question, RequestState
from engines.service.supervisor import Supervisor
from engines.types.audio import (
    AlignmentDone,
    AlignmentRequest,
    PieceDone,
    PieceRequest,
    Sound,
    UtteranceDone,
    UtteranceRequest,
)
from engines.types.chat import (
    ChatRequest,
    CompletionRequest,
    Delta,
    Event,
    Request,
    Tokenized,
)
from engines.types.common import Capability, Started, Usage
from engines.types.errors import ServiceError
from engines.types.status import Health, Metric, ModelStatus

CAPABILITIES: Mapping[type, Capability] = {
    ChatRequest: "chat",
    CompletionRequest: "chat",
    PieceRequest: "transcription",
    AlignmentRequest: "alignment",
    UtteranceRequest: "speech",
}


class Runtime:
    """Use as an async context manager: leaving it ends every runner."""

    def __init__(
        self,
        catalog: Catalog,
        options: RuntimeOptions,
        awake: KeepAwake | None = None,
        read_conditions: Callable[[], Conditions] | None = None,
    ) -> None:
        self._catalog = catalog
        self._options = options
        self._clock = AwakeClock(time.monotonic)
        self._admission = Admission()
        self._supervisor = Supervisor(options, self._clock, self._admission)
        read = read_conditions or Sensors(Host()).read
        self._background = Background(self._clock, read, options.battery_floor)
        self._watch = HealthLoop(self._clock, self._admission, self._supervisor, awake or KeepAwake(), self._background)
        self._counts: dict[str, int] = {"done": 0, "failed": 0, "cancelled": 0}
        self._counts |= {"tokens": 0, "prompt_tokens": 0, "cached_tokens": 0}

    async def __aenter__(self) -> Self:
        self._watch.begin()
        for name in self._options.pinned + self._options.preload:
            self._supervisor.register(await asyncio.to_thread(self._catalog.resolve, name))
        for name in self._options.preload:
            self._supervisor.want(await asyncio.to_thread(self._catalog.resolve, name))
        self._supervisor.runners.prepare_spare()
        self._supervisor.settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close(0.0)

    async def close(self, grace: float) -> None:
        """Accept no new request, let the others finish for `grace` seconds, fail the rest, end every runner."""
        self._background.end()
        await self._admission.stop(grace)
        await self._supervisor.close()
        await self._watch.close()

    # -- requests -----------------------------------------------------------------------------------------------

    async def resolve(self, name: str, capability: Capability) -> Entry:
        """The model of this name. Raises as `Catalog.resolve`."""
        return await asyncio.to_thread(self._catalog.resolve, name, capability)

    @overload
    def run(self, work: Request) -> AsyncGenerator[Event]: ...
    @overload
    def run(
        self, work: PieceRequest, entry: Entry | None = None, *, modest: bool = False
    ) -> AsyncGenerator[Started | Delta | PieceDone]: ...
    @overload
    def run(self, work: AlignmentRequest, entry: Entry | None = None) -> AsyncGenerator[Started | AlignmentDone]: ...
    @overload
    def run(
        self, work: UtteranceRequest, entry: Entry | None = None
    ) -> AsyncGenerator[Started | Sound | UtteranceDone]: ...

    async def run(
        self, work: runner_protocol.Work, entry: Entry | None = None, *, modest: bool = False
    ) -> AsyncGenerator[Any]:
        """The events of a request; the last one ends it, or a `ServiceError` is raised instead of the rest.

        `entry` is the model where its name was resolved before, as that of a composite request's pieces was. A `modest`
        request runs only if nothing has to make room for it (`pool.Job`). Closing the generator cancels the work.
        """
        ticket = await self._admit(work.model, CAPABILITIES[type(work)], work, entry)
        outcome = "cancelled"
        try:
            arrived = self._clock.now
            if (fault := pool.left_alone(self._supervisor.state, ticket.entry.key, arrived)) is not None:
                raise fault
            await self._supervisor.ask(ticket, runner_protocol.Prepare(ticket.id, ticket.request or work))
            # A recording's pieces wait where they are cut: its first does not.
            if work.priority == "background" and not isinstance(work, PieceRequest | AlignmentRequest):
                await self._background.go_ahead()
            self._supervisor.queue(ticket, arrived, work.priority, modest)
            if isinstance(work, ChatRequest | CompletionRequest):
                yield ticket.accepted
            async for event in ticket.events(arrived, self._clock):
                if isinstance(event, runner_protocol.End):
                    outcome = "done"
                    self._count(event.usage)
                yield event
        except ServiceError:
            outcome = "failed"
            raise
        finally:
            self._leave(ticket, outcome)

    async def tokenize(self, request: Request) -> Tokenized:
        answer = await self._asked(request.model, lambda id: runner_protocol.Tokenize(id, request))
        assert isinstance(answer, runner_protocol.Tokens)
        return answer.result

    async def detokenize(self, model: str, tokens: Sequence[int]) -> str:
        answer = await self._asked(model, lambda id: runner_protocol.Detokenize(id, tuple(tokens)))
        assert isinstance(answer, runner_protocol.Detokenized)
        return answer.text

    async def beside(self, preferred: str, capability: Capability) -> Entry | None:
        """A model that could do a modest request now: the preferred one if it is loaded, another one that is, or the
        preferred one if there is room for it. None where there is none."""
        state = self._supervisor.state
        with contextlib.suppress(ServiceError):
            entry = await self.resolve(preferred, capability)
            self._supervisor.register(entry)
            loaded = [key for key in state.residents if self._supervisor.does(key) == capability]
            for key in sorted(loaded, key=lambda key: key != entry.key) or [entry.key]:
                if pool.left_alone(state, key, self._clock.now) is None and pool.fits_beside(state, key):
                    return self._supervisor.entry(key)
        return None

    def composite(self) -> contextlib.AbstractContextManager[None]:
        """Around a request that is answered by several (`Admission.composite`)."""
        return self._admission.composite()

    async def until_background_may_run(self) -> None:
        """Returns when background work need not wait any more (`Background.go_ahead`)."""
        await self._background.go_ahead()

    def models(self) -> Sequence[ModelStatus]:
        return [self._status(item) for item in self._catalog.entries()]

    def model(self, name: str) -> ModelStatus:
        for known in self.models():
            if name.casefold() in (one.casefold() for one in known.names):
                return known
        return self._status(self._catalog.resolve(name))

    def _status(self, item: Entry | NotInstalled) -> ModelStatus:
        supervisor, own_sampling = self._supervisor, self._options.checkpoint_sampling
        return status.model_status(item, supervisor.state, own_sampling, supervisor.on_gpu, checkpoint.is_float32)

    async def load(self, model: str) -> None:
        self._admission.check()
        entry = await asyncio.to_thread(self._catalog.resolve, model)
        self._supervisor.register(entry)
        await self._supervisor.load(entry)

    async def unload(self, model: str) -> None:
        await self._supervisor.unload(await asyncio.to_thread(self._catalog.resolve, model))

    def health(self) -> Health:
        known = status.health(self._supervisor.state, self._watch.late(), self._supervisor.main_name)
        paused_by = self._background.advice.pauses
        return msgspec.structs.replace(known, paused_by=paused_by, conditions=status.told(self._background.conditions))

    def metrics(self) -> Sequence[Metric]:
        counts = {**self._counts, "runner_deaths": self._supervisor.deaths}
        supervisor = self._supervisor
        models = status.metrics(supervisor.state, counts, supervisor.main_name, supervisor.known)
        return [*models, *status.machine_metrics(self._background.conditions, self._background.advice.pauses)]

    # -- the life of a request ----------------------------------------------------------------------------------

    async def _asked(self, model: str, command: Callable[[int], Question]) -> runner_protocol.Answer:
        """What the model's tokenizer says."""
        ticket = await self._admit(model, "chat")
        try:
            return await self._supervisor.ask(ticket, command(ticket.id))
        except asyncio.CancelledError:
            if ticket.worker is not None:
                ticket.worker.send(job.Cancel(ticket.id))
            raise
        finally:
            self._forget(ticket)

    def _sampled(self, request: runner_protocol.Work, entry: Entry) -> runner_protocol.Work:
        """As the checkpoint's makers would have it sampled, where the client doesn't say."""
        if not self._options.checkpoint_sampling or not isinstance(request, ChatRequest | CompletionRequest):
            return request
        sampling = sampling_defaults.applied(request.sampling, entry.checkpoint.sampling)
        return msgspec.structs.replace(request, sampling=sampling)

    async def _admit(
        self, model: str, capability: Capability, work: runner_protocol.Work | None = None, entry: Entry | None = None
    ) -> RequestState:
        """Work on an `entry` that is known belongs to a composite request, which was let in before."""
        is_piece = entry is not None
        self._admission.check(is_piece)
        found = entry or await self.resolve(model, capability)
        sampled = None if work is None else self._sampled(work, found)
        ticket = self._admission.enter(found, sampled, is_piece)
        self._supervisor.register(found)
        return ticket

    def _count(self, usage: Usage) -> None:
        self._counts["tokens"] += usage.completion_tokens
        self._counts["prompt_tokens"] += usage.prompt_tokens
        self._counts["cached_tokens"] += usage.cached_tokens

    def _leave(self, ticket: RequestState, outcome: str) -> None:
        """The one place where a request ends, however it does."""
        self._forget(ticket)
        self._counts[outcome] += 1
        self._supervisor.leave(ticket, well=outcome == "done")

    def _forget(self, ticket: RequestState) -> None:
        self._admission.leave(ticket)
        if ticket.worker is not None:
            ticket.worker.last_used = self._clock.now
