"""What every kind of runner has, so that its process is written once: a preparer of requests and a stepped engine."""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar, runtime_checkable

from engines.ipc import job, runner_protocol
from engines.runner.patience import Patience
from engines.types.chat import Request
from engines.types.common import Adjusted

Asked = TypeVar("Asked", contravariant=True, bound=runner_protocol.Work)
Taken = TypeVar("Taken", contravariant=True)
Given = TypeVar("Given", covariant=True, bound="PreparedPrompt")


class PreparedPrompt(Protocol):
    """A request, ready for its engine: how many tokens are to be read, and how many may be made at most."""

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def max_tokens(self) -> int: ...


@runtime_checkable
class Adjusting(Protocol):
    """A prepared request of which some fields may act otherwise than they were given."""

    @property
    def adjusted(self) -> tuple[Adjusted, ...]: ...


class Preparer(Protocol, Generic[Asked, Given]):
    """Work for which no weights are needed, on a thread of its own."""

    @property
    def context_length(self) -> int:
        """Tokens read and made together, at most."""
        ...

    def write(self, request: Asked, patience: Patience | None = None) -> Given:
        """Raises `ServiceError` for what is wrong with the request; `Abandoned` where it takes long."""
        ...


@runtime_checkable
class TokenizingPreparer(Protocol):
    """What a preparer of text can tell beside."""

    def ids_of(self, request: Request, patience: Patience | None = None) -> tuple[int, ...]: ...

    def text_of(self, ids: Sequence[int]) -> str: ...


class Engine(Protocol, Generic[Taken]):
    """Work that advances in bounded steps on one thread."""

    @property
    def idle(self) -> bool:
        """Nothing to step: no request is in work, or all wait for their clients."""
        ...

    def submit(self, id: int, prepared: Taken, credit: int) -> None:
        """Take a request in; it advances with the next steps and sends at most `credit` deltas."""
        ...

    def cancel(self, id: int) -> None:
        """Forget a request before the next step; unknown ids are ignored."""
        ...

    def grant(self, id: int, deltas: int) -> None:
        """The client took deltas: the request may send so many more. Unknown ids are ignored."""
        ...

    def resize(self, kv_bytes: int) -> None:
        """The lease has another size now: what is kept beside the weights must fit into so many bytes."""
        ...

    def step(self) -> Sequence[runner_protocol.Said | runner_protocol.Finished | job.Failed]:
        """Advance once. An exception in one request's work fails that request alone."""
        ...
