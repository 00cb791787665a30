"""Each API gets errors and events in its own dialect, whatever part of the server writes them."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from engines.types.common import Json
from engines.types.errors import InvalidRequest, ServiceError
from http_server.boundary import Boundary
from http_server.callers import Callers
from http_server.errors import error_handlers
from http_server.gate import Gate, GateLimits
from http_server.streaming import EventStream, StreamOptions
from openai_compat.dialect import OPENAI


class Other:
    """A dialect that isn't OpenAI's."""

    keep_alive = b"event: ping\n\n"

    def error(self, error: ServiceError) -> Json:
        return {"type": "error", "error": {"type": error.type, "message": error.message}}

    def error_event(self, error: ServiceError) -> bytes:
        return b"event: error\n" + self.event(self.error(error))

    def event(self, data: Json) -> bytes:
        return f"data: {json.dumps(data)}\n\n".encode()


class Words(EventStream[str]):
    """Two words, silence, and a failure."""

    async def events(self) -> AsyncGenerator[str]:
        yield "one"
        await asyncio.sleep(0.05)
        yield "two"
        raise InvalidRequest("no more words")

    def said(self, item: str) -> Iterable[Json]:
        yield {"word": item}


async def stream(request: Request) -> Response:
    return Words("t", {}, StreamOptions(request.scope["state"]["dialect"], 1.0, 0.02))


async def fails(request: Request) -> Response:
    raise InvalidRequest("that is wrong") if request.query_params else RuntimeError("secret")


def app() -> Boundary:
    routes = [Route(f"{place}/{route.__name__}", route) for place in ("/other", "/v1") for route in (stream, fails)]
    callers = Callers((), ())
    inner = Starlette(routes=routes, exception_handlers=error_handlers())
    gate = Gate(inner, callers, ["key"], GateLimits(10, 10))
    return Boundary(gate, callers, lambda path: Other() if path.startswith("/other") else OPENAI)


def get(path: str, query: bytes = b"", key: str = "key") -> tuple[int, bytes]:
    """Status and body."""
    sent: list[Any] = []

    async def receive() -> Any:
        if sent and sent[0] is None:
            await asyncio.Event().wait()
        sent.insert(0, None)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"x-api-key", key.encode())]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": query, "headers": headers}
    asyncio.run(app()(scope, receive, send))
    messages = [message for message in sent if message is not None]
    return messages[0]["status"], b"".join(message.get("body", b"") for message in messages)


@pytest.mark.parametrize(
    ("path", "query", "key", "status"),
    [
        ("fails", b"a=b", "key", 400),
        ("fails", b"", "key", 500),
        ("nowhere", b"", "key", 404),
        ("fails", b"", "wrong", 401),
    ],
)
def test_errors_of_route_router_and_gate_are_in_the_dialect_of_their_path(
    path: str, query: bytes, key: str, status: int
) -> None:
    answered, body = get(f"/other/{path}", query, key)
    assert answered == status and set(json.loads(body)) == {"type", "error"} and b"secret" not in body
    answered, body = get(f"/v1/{path}", query, key)
    assert answered == status and set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


def test_events_errors_and_silence_of_a_stream_are_in_the_dialect_of_its_path() -> None:
    _, body = get("/other/stream")
    assert body.startswith(b'data: {"word": "one"}\n\nevent: ping\n\n') and b"no more words" in body
    assert body.rstrip().rpartition(b"\n\n")[2].startswith(b"event: error\ndata: ")
    _, body = get("/v1/stream")
    assert body.startswith(b'data: {"word":"one"}\n\n: keep-alive\n\n') and b'data: {"error":' in body
