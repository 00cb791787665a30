"""Requests run to their end: the event that ends one, and another try where a runner died."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from engines.types.errors import InternalError, RunnerDied

Last = TypeVar("Last")
T = TypeVar("T")


async def last(
    events: AsyncGenerator[object], kind: type[Last], each: Callable[[object], Awaitable[None]] | None = None
) -> Last:
    """The first event of this kind, behind which the generator is closed; `each` is told those before it.

    Raises what the generator raises, and `InternalError` if it ends without.
    """
    async with aclosing(events):
        async for event in events:
            if isinstance(event, kind):
                return event
            if each is not None:
                await each(event)
    raise InternalError("The model's answer broke off. Try again.")


async def retry_on_death(work: Callable[[], Awaitable[T]], again: Callable[[], Awaitable[T]] | None = None) -> T:
    """What `work` gives; if the runner dies meanwhile, what `again` does, or `work` once more.

    Raises what they raise otherwise.
    """
    try:
        return await work()
    except RunnerDied:
        return await (again or work)()
