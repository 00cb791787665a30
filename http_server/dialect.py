"""What every API has and writes in its own way: errors, and the events of a stream."""

from collections.abc import Callable
from typing import Protocol

from engines.types.common import Json
from engines.types.errors import ServiceError


class Dialect(Protocol):
    """One API's way to write them. Pure."""

    @property
    def keep_alive(self) -> bytes:
        """What a silent stream is sent, so that no proxy gives it up."""

    def error(self, error: ServiceError) -> Json:
        """The body of an answer that is an error."""

    def error_event(self, error: ServiceError) -> bytes:
        """An error after the first event of a stream."""

    def event(self, data: Json) -> bytes:
        """One server-sent event."""


DialectOf = Callable[[str], Dialect]  # path → the dialect of the API that it belongs to
