"""The stepped protocol that every engine in a runner has, so that the runner's loop is written once."""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from engines import wire

Prepared = TypeVar("Prepared", contravariant=True)


class Engine(Protocol, Generic[Prepared]):
    """Work that advances in bounded steps on one thread."""

    @property
    def idle(self) -> bool:
        """Nothing to step: no request is in work, or all wait for their clients."""
        ...

    def submit(self, id: int, prepared: Prepared, credit: int) -> None:
        """Take a request in; it advances with the next steps and sends at most `credit` deltas."""
        ...

    def cancel(self, id: int) -> None:
        """Forget a request before the next step; unknown ids are ignored."""
        ...

    def grant(self, id: int, deltas: int) -> None:
        """The client took deltas: the request may send so many more. Unknown ids are ignored."""
        ...

    def step(self) -> Sequence[wire.Said | wire.Finished | wire.Failed]:
        """Advance once. An exception in one request's work fails that request alone."""
        ...
