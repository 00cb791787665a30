"""What a connection sends, counted message by message against the limits. Pure: it is told what a parser finds."""

from enum import Enum, auto

from engines.types.errors import HeadersTooLarge, InvalidRequest, TargetTooLong
from http_server.transport.limits import TransportLimits

CHUNK_COST = 16  # bytes beside each byte of a body that are anybody's right: a chunk of one byte has five


class Place(Enum):
    """Where in a message the connection is."""

    BETWEEN = auto()
    HEAD = auto()
    BODY = auto()


class Meter:
    """Raises `TargetTooLong`, `HeadersTooLarge` or `InvalidRequest` where a limit is passed.

    The parser tells a header when it is whole; what grows in it unseen is counted by the pieces that it is fed with:
    `fed` must be called after each, so a piece's size is how far a limit can be overstepped.
    """

    def __init__(self, limits: TransportLimits) -> None:
        self._limits = limits
        self.place = Place.BETWEEN
        self.body_bytes = 0
        self._target = self._head = self._headers = 0
        self._unseen = 0  # bytes in the pieces of an unfinished head, but for the one that it began in
        self._beside = 0
        self._moved = False  # to another place within this piece
        self._data = 0  # of the body, in this piece

    def began(self) -> None:
        self._enter(Place.HEAD)
        self.body_bytes = self._target = self._head = self._headers = self._unseen = self._beside = 0

    def target(self, size: int) -> None:
        self._target += size
        if self._target > self._limits.target:
            raise TargetTooLong(f"The request's target has more than {self._limits.target} bytes.")
        self._count(size)

    def header(self, size: int) -> None:
        """A whole header, or a whole trailer."""
        self._headers += 1
        if self._headers > self._limits.headers:
            raise HeadersTooLarge(f"The request has more than {self._limits.headers} headers.")
        self._count(size)

    def head_ended(self) -> None:
        self._enter(Place.BODY)

    def body(self, size: int) -> None:
        self._data += size
        self.body_bytes += size

    def ended(self) -> None:
        self._enter(Place.BETWEEN)

    def fed(self, size: int) -> None:
        """The parser has taken a piece of that size."""
        if not self._moved and self.place is Place.HEAD:
            self._unseen += size
            if self._unseen > self._limits.head:
                raise self._too_large()
        elif not self._moved and self.place is Place.BODY:
            self._beside += size - self._data
            if self._beside > self._limits.beside_body + CHUNK_COST * self.body_bytes:
                raise InvalidRequest("The body's chunks carry too much beside its data; send larger chunks.")
        self._moved, self._data = False, 0

    def _enter(self, place: Place) -> None:
        self.place, self._moved = place, True

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > self._limits.head:
            raise self._too_large()

    def _too_large(self) -> HeadersTooLarge:
        return HeadersTooLarge(f"The request's headers have more than {self._limits.head} bytes.")
