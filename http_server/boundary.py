"""Before and around every route: the request's id, its dialect, and every failure as an answer."""

import asyncio
import logging
import re
import secrets
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engines.types.errors import ServiceError, stopping
from engines.types.trace import current
from http_server import cors
from http_server.callers import Callers
from http_server.dialect import DialectOf
from http_server.errors import answer
from http_server.response_headers import ignored

_TRACE = re.compile(r"[A-Za-z0-9._-]{1,128}")

log = logging.getLogger("http")


class Boundary:
    """The outermost layer: gives every answer its `X-Request-Id`, and lets pages read it; every failure its shape."""

    def __init__(self, app: ASGIApp, callers: Callers, dialect_of: DialectOf) -> None:
        self._app = app
        self._callers = callers
        self._dialect_of = dialect_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope)
        asked, origin = given.get("x-request-id", ""), given.get("origin", "")
        trace = asked if _TRACE.fullmatch(asked) else secrets.token_hex(12)
        dialect = self._dialect_of(scope["path"])
        scope.setdefault("state", {}).update(trace=trace, dialect=dialect)
        current.set(trace)  # of this request's task, and of those that it starts

        begun = False

        async def traced(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = trace
                _tell_query(scope, headers)
                self._show(headers, origin)
            await send(message)

        try:
            await self._app(scope, receive, traced)
        except ServiceError as error:
            await answer(error, dialect)(scope, receive, traced)
        except asyncio.CancelledError:  # the server waited for it, and stops now
            if begun:
                log.warning("request %s is broken off: the server stops", trace)
            else:
                await answer(stopping(), dialect)(scope, receive, traced)
        except Exception:
            log.exception("request %s failed", trace)

    def _show(self, headers: MutableHeaders, origin: str) -> None:
        if self._callers.has_foreign_pages:
            headers.add_vary_header("Origin")
        if self._callers.allows(origin):
            cors.show(headers, origin)


def _tell_query(scope: Scope, headers: MutableHeaders) -> None:
    """Fields belong into the body; those that a client puts behind the path are told back."""
    if scope["method"] == "POST" and scope["path"].startswith("/v1/") and scope["query_string"]:
        names = dict.fromkeys(f"?{name}" for name, _ in parse_qsl(scope["query_string"].decode("latin-1"), True))
        before = [headers["X-Ignored-Fields"]] if "X-Ignored-Fields" in headers else []
        headers["X-Ignored-Fields"] = ", ".join([*before, *ignored(tuple(names)).values()])
