"""Events of a request, run through for the one that ends them."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from engines.types.errors import InternalError

Last = TypeVar("Last")


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
