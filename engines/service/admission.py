"""Who is inside: every request by its ticket, and composite requests. A stop lets whole requests end."""

import asyncio
import contextlib
import itertools
from collections.abc import Iterator, Mapping

from engines.ipc import runner_protocol
from engines.models.catalog import Entry
from engines.service.condition import Condition
from engines.service.request_state import RequestState
from engines.types.errors import stopping


class Admission:
    """A composite request has many pieces, each with a ticket of its own; between two of them it has none."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._tickets: dict[int, RequestState] = {}
        self._composites = 0
        self._stopping = False  # no new request is admitted
        self._closed = False  # nothing is
        self._changes = Condition()

    @property
    def tickets(self) -> Mapping[int, RequestState]:
        return self._tickets

    @property
    def busy(self) -> bool:
        """Whether anybody is inside."""
        return bool(self._tickets or self._composites)

    @property
    def closed(self) -> bool:
        """Whether whoever is still inside has failed."""
        return self._closed

    def check(self, is_piece: bool = False) -> None:
        """Raises that the server stops, if it does; pieces of composite requests that came before are admitted."""
        if self._closed or (self._stopping and not is_piece):
            raise stopping()

    def enter(self, entry: Entry, request: runner_protocol.Work | None, is_piece: bool) -> RequestState:
        """A ticket, to be given back with `leave`. Raises as `check`."""
        self.check(is_piece)
        ticket = RequestState(next(self._ids), entry, request)
        self._tickets[ticket.id] = ticket
        return ticket

    def leave(self, ticket: RequestState) -> None:
        del self._tickets[ticket.id]
        self._changes.announce()

    @contextlib.contextmanager
    def composite(self) -> Iterator[None]:
        """Around a request of many pieces. It is refused when the server stops; one that came before is waited for,
        and its further pieces are admitted."""
        self.check()
        self._composites += 1
        try:
            yield
        finally:
            self._composites -= 1
            self._changes.announce()

    async def stop(self, grace: float) -> None:
        """Admit no new request, let the others finish for `grace` seconds, fail the rest."""
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while self.busy:
                    await self._changes.next()
        self._closed = True
        for ticket in self._tickets.values():
            ticket.fail(stopping())
