"""One request on its way through the runtime: what its runner is asked, and what comes of it."""

import asyncio
from collections.abc import AsyncGenerator
from typing import assert_never

import msgspec

from engines.host.clock import AwakeClock
from engines.ipc import job, runner_protocol
from engines.models.catalog import Entry
from engines.service.runner_handle import RunnerHandle
from engines.types.common import Accepted, Started
from engines.types.errors import ServiceError

Happening = Accepted | Started | runner_protocol.Saying | runner_protocol.End

CREDIT = 64
RESERVED_TOKENS = 1024

Question = runner_protocol.Prepare | runner_protocol.Tokenize | runner_protocol.Detokenize


class RequestState:
    """`worker` is the runner that knows the request, None if there is none (any more).

    `sent` once a client may have seen something: then it can't be tried again. `asked_at` is when its runner's helper
    was asked. `unread_since` is when its client was first seen to have taken nothing for so long that its runner may
    send no more; None as long as it may.
    """

    def __init__(self, id: int, entry: Entry, request: runner_protocol.Work | None) -> None:
        self.id = id
        self.entry = entry
        self.request = request
        self.worker: RunnerHandle | None = None
        self.sent = False
        self.asked_at = 0.0
        self.unread_since: float | None = None
        self._said = 0
        self._taken = 0
        self._prepared = runner_protocol.Prepared(id, 0, 0)
        self._answer: asyncio.Future[runner_protocol.Answer] | None = None
        self._inbox: asyncio.Queue[Started | runner_protocol.Said | runner_protocol.Finished | ServiceError] = (
            asyncio.Queue()
        )

    @property
    def asking(self) -> bool:
        """Whether its runner's helper owes an answer."""
        return self._answer is not None

    @property
    def kv_bytes(self) -> int:
        """The room that is kept for it: for its prompt, and as much of its answer as it is likely to have."""
        seen = self.entry.checkpoint
        tokens = self._prepared.prompt_tokens + min(self._prepared.max_tokens, RESERVED_TOKENS)
        return seen.kv_bytes_fixed + seen.kv_bytes_per_token * tokens

    @property
    def accepted(self) -> Accepted:
        """What is known of it once it is prepared."""
        return Accepted(self._prepared.adjusted)

    @property
    def trace(self) -> str:
        """The client's request id, for the log."""
        return self.request.trace if self.request is not None else "-"

    async def ask(self, worker: RunnerHandle, question: Question, now: float) -> runner_protocol.Answer:
        """What the runner's helper says; raises what is wrong with the request."""
        self.worker = worker
        self.asked_at = now
        self._answer = asyncio.get_running_loop().create_future()
        worker.send(question)
        try:
            answer = await self._answer
        finally:
            self._answer = None
        if isinstance(answer, runner_protocol.Prepared):
            self._prepared = answer
        return answer

    def start(self, worker: RunnerHandle) -> None:
        """Run what was prepared."""
        self._inbox.put_nowait(Started(self.entry.names[0], self._prepared.prompt_tokens))
        worker.send(runner_protocol.Submit(self.id, CREDIT))

    def deliver(
        self, report: runner_protocol.Said | runner_protocol.Finished | job.Failed | runner_protocol.Answer
    ) -> None:
        """What the runner said."""
        match report:
            case runner_protocol.Said() | runner_protocol.Finished():
                self.sent = self.sent or isinstance(report, runner_protocol.Said)
                self._said += isinstance(report, runner_protocol.Said)
                self._inbox.put_nowait(report)
            case job.Failed():
                self.fail(report.failure.error())
            case _:
                if self._answer is not None and not self._answer.done():
                    self._answer.set_result(report)

    def fail(self, error: ServiceError) -> None:
        """It ends with this error, unless its runner's helper is asked something: then that fails."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        else:
            self._inbox.put_nowait(error)

    def look(self, now: float) -> None:
        """Notes whether its client reads."""
        granted = CREDIT + self._taken // (CREDIT // 2) * (CREDIT // 2)
        if self._said < granted:
            self.unread_since = None
        elif self.unread_since is None:
            self.unread_since = now

    async def events(self, arrived: float, clock: AwakeClock) -> AsyncGenerator[Happening]:
        """Everything until it is done, started once for its client however often it was tried; raises its failure."""
        queued = 0.0
        started = False
        while True:
            item = await self._inbox.get()
            match item:
                case Started():
                    queued = clock.now - arrived
                    if not started:
                        yield item
                    started = True
                case runner_protocol.Said():
                    yield item.delta
                    self._taken += 1
                    if self._taken % (CREDIT // 2) == 0 and self.worker is not None:
                        self.worker.send(job.Credit(self.id, CREDIT // 2))
                case runner_protocol.Finished():
                    timings = msgspec.structs.replace(item.end.timings, queued=queued)
                    yield msgspec.structs.replace(item.end, timings=timings)
                    return
                case ServiceError():
                    raise item
                case _:
                    assert_never(item)
