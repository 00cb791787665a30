"""What every stepped engine does with its rows: find them, give them credit, cancel them, fail one or several."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Generic, Protocol, TypeVar

from engines.ipc import job, runner_protocol
from engines.ipc.device_fault import pass_on
from engines.types.errors import Failure, InternalError, ServiceError

Report = runner_protocol.Said | runner_protocol.Finished | job.Failed

log = logging.getLogger("engine")


class EngineRow(Protocol):
    """A request in an engine. `credit` is how many deltas it may still send."""

    id: int
    credit: int

    @property
    def trace(self) -> str:
        """Its client's id, for the log."""


R = TypeVar("R", bound=EngineRow)


class RowEngine(ABC, Generic[R]):
    """The part of `engines.runner.engine.Engine` that doesn't depend on the model.

    An engine keeps its rows in places of its own, and says with `rows` and `drop` which they are.
    """

    @property
    @abstractmethod
    def rows(self) -> Sequence[R]:
        """All requests, wherever they stand."""

    @abstractmethod
    def drop(self, rows: Collection[R]) -> None:
        """Forget these rows and free what they hold. Others go on."""

    def drop_failed(self, rows: Collection[R]) -> None:
        """As `drop`, of rows whose caches may be half written."""
        self.drop(rows)

    def cancel(self, id: int) -> None:
        """Forget a request before the next step; unknown ids are ignored."""
        if gone := [row for row in self.rows if row.id == id]:
            self.drop(gone)

    def grant(self, id: int, deltas: int) -> None:
        """The client took deltas: the request may send as many more. Unknown ids are ignored."""
        for row in self.rows:
            if row.id == id:
                row.credit += deltas

    def guarded(self, work: Callable[[], list[Report]], rows: Collection[R]) -> list[Report]:
        """What `work` reports. If it raises, `rows`, whose caches it may have touched, fail."""
        return guarded(work, rows, self.drop_failed)


def guarded(
    work: Callable[[], list[Report]], rows: Collection[R], drop: Callable[[Collection[R]], None]
) -> list[Report]:
    """What `work` reports. If it raises, `rows` are dropped and fail.

    A fault of the device is raised again: after it, nothing in the process can be trusted.
    """
    try:
        return work()
    except Exception as error:
        pass_on(error)
        log.exception("a forward pass failed, of %s", ", ".join(row.trace for row in rows))
        failing = list(rows)
        drop(failing)
        return [failed(row) for row in failing]


def guarded_row(row: EngineRow, work: Callable[[], tuple[list[Report], bool]]) -> tuple[list[Report], bool]:
    """What `work`, which concerns this row alone, reports, and whether the row is over. If it raises, the row fails."""
    try:
        return work()
    except ServiceError as error:
        return [job.Failed(row.id, Failure.of(error))], True
    except Exception as error:
        pass_on(error)
        log.exception("request %s failed", row.trace)
        return [failed(row)], True


def failed(row: EngineRow) -> job.Failed:
    """The last report of a row that failed for a reason which is the server's."""
    error = InternalError("This request failed; the server's log says why.")
    return job.Failed(row.id, Failure.of(error))
