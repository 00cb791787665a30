"""Several answers to one body at once, as one stream of events."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from engines.types.chat import CompletionRequest, Event, Request
from engines.types.common import Accepted
from engines.types.inference import Inference
from openai_compat.chat.fields import Parsed

Numbered = tuple[int, Event]


def started(inference: Inference, request: Request) -> AsyncGenerator[Event]:
    """The request at work."""
    return inference.complete(request) if isinstance(request, CompletionRequest) else inference.chat(request)


async def events(inference: Inference, parsed: Parsed) -> AsyncGenerator[Numbered]:
    """Every event with the number of its choice, and each `Accepted` before anything else. The first failure ends them
    all; so does closing this."""
    if len(parsed.requests) == 1:
        async with aclosing(started(inference, parsed.first)) as single:
            async for event in single:
                yield 0, event
        return
    queue: asyncio.Queue[Numbered | BaseException | None] = asyncio.Queue(1)
    accepted = asyncio.Barrier(len(parsed.requests))
    tasks = [
        asyncio.ensure_future(_into(queue, accepted, number, inference, request))
        for number, request in enumerate(parsed.requests)
    ]
    try:
        left = len(tasks)
        while left:
            item = await queue.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                left -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _into(
    queue: "asyncio.Queue[Numbered | BaseException | None]",
    accepted: asyncio.Barrier,
    number: int,
    inference: Inference,
    request: Request,
) -> None:
    try:
        async with aclosing(started(inference, request)) as one:
            async for event in one:
                await queue.put((number, event))
                if isinstance(event, Accepted):
                    await accepted.wait()
    except Exception as error:
        await queue.put(error)
    else:
        await queue.put(None)
