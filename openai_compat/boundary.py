"""Before and around every route: the request's id, who may ask, how long a body may be, and how errors are told."""

import asyncio
import hmac
import logging
import re
import secrets
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engines.errors import (
    BodyTooLarge,
    HostRefused,
    InternalError,
    InvalidApiKey,
    MethodRefused,
    ServiceError,
    UnknownRoute,
    stopping,
)
from engines.trace import current
from openai_compat.told import ignored

_TRACE = re.compile(r"[A-Za-z0-9._-]{1,128}")

log = logging.getLogger("http")


def body_of(error: ServiceError) -> dict[str, Any]:
    """OpenAI's error object."""
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def answer(error: ServiceError) -> JSONResponse:
    """An error as a whole answer, with its true status; what is the server's fault is in its log as well."""
    if error.status >= 500:
        log.warning("answered %d, %s: %s", error.status, error.code, error.message)
    headers: dict[str, str] = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    elif error.status >= 500:
        headers["X-Should-Retry"] = "false"
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body_of(error), error.status, headers)


def error_handlers() -> Mapping[Any, Any]:
    """What routes raise and what the router refuses, in our shape."""
    return {
        404: _routing_error,
        405: _routing_error,
        ClientDisconnect: _left,
        ServiceError: _service_error,
        Exception: _unexpected,
    }


async def _left(request: Request, error: ClientDisconnect) -> Response:
    """Nobody reads it: a client that leaves is no failure, and not worth a traceback in the log."""
    return Response(status_code=499)


async def _service_error(request: Request, error: ServiceError) -> Response:
    return answer(error)


async def _unexpected(request: Request, error: Exception) -> Response:
    """Starlette raises it again behind this answer, so that `Boundary` logs it."""
    trace = request.scope["state"]["trace"]
    return answer(InternalError(f"The request failed; the server's log says why (request {trace})."))


async def _routing_error(request: Request, error: HTTPException) -> Response:
    at = f"{request.method} {request.url.path}"
    if error.status_code == 404:
        return answer(UnknownRoute(f"There is no {at} here. Try /v1/models or /v1/chat/completions."))
    response = answer(MethodRefused(f"{at}: this path takes {(error.headers or {}).get('Allow', 'another method')}."))
    response.headers.update(error.headers or {})
    return response


class Boundary:
    """The outermost layer: gives every answer its `X-Request-Id`, and every failure its shape."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope).get("x-request-id", "")
        trace = asked if _TRACE.fullmatch(asked) else secrets.token_hex(12)
        scope.setdefault("state", {})["trace"] = trace
        current.set(trace)  # of this request's task, and of those that it starts

        begun = False

        async def traced(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = trace
                _tell_query(scope, headers)
            await send(message)

        try:
            await self._app(scope, receive, traced)
        except ServiceError as error:
            await answer(error)(scope, receive, traced)
        except asyncio.CancelledError:  # the server waited for it, and stops now
            if begun:
                log.warning("request %s is broken off: the server stops", trace)
            else:
                await answer(stopping())(scope, receive, traced)
        except Exception:
            log.exception("request %s failed", trace)


def _tell_query(scope: Scope, headers: MutableHeaders) -> None:
    """Fields belong into the body; those that a client puts behind the path are told back."""
    if scope["method"] == "POST" and scope["path"].startswith("/v1/") and scope["query_string"]:
        names = dict.fromkeys(f"?{name}" for name, _ in parse_qsl(scope["query_string"].decode("latin-1"), True))
        before = [headers["X-Ignored-Fields"]] if "X-Ignored-Fields" in headers else []
        headers["X-Ignored-Fields"] = ", ".join([*before, *ignored(tuple(names)).values()])


class Limits(NamedTuple):
    """Most bytes of a body: of any, and of a multipart form to one of the paths that take uploads."""

    body: int
    upload: int
    upload_paths: Set[str] = frozenset()

    def of(self, path: str, headers: Headers) -> tuple[int, str]:
        """The limit, and the setting that it comes from."""
        form = headers.get("content-type", "").lower().startswith("multipart/form-data")
        return (self.upload, "max_upload_mb") if form and path in self.upload_paths else (self.body, "max_body_mb")


class Gate:
    """Refuses before any work: other hosts and origins (DNS rebinding), unknown keys, bodies that are too large."""

    def __init__(
        self, app: ASGIApp, hosts: Sequence[str], origins: Sequence[str], keys: Sequence[str], limits: Limits
    ) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origins)
        self._keys = [key.encode() for key in keys]
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        self._check_host(headers)
        if scope["path"] != "/health":
            self._check_key(headers)
        limit, setting = self._limits.of(scope["path"], headers)
        too_large = BodyTooLarge(f"The body is larger than {limit} bytes ({setting}).")
        declared = headers.get("content-length", "")
        if re.fullmatch(r"[0-9]{1,19}", declared) and int(declared) > limit:
            raise too_large  # before a client sends it in vain
        await self._app(scope, _counted(receive, limit, too_large), send)

    def _check_host(self, headers: Headers) -> None:
        hosts = [host.lower() for host in headers.getlist("host")]
        if len(hosts) != 1 or not {hosts[0], hosts[0].rsplit(":", 1)[0]} & self._hosts:
            raise HostRefused("This server isn't called by that Host name; add it to allowed_hosts if it should be.")
        origins = headers.getlist("origin")
        if any(origin not in (f"http://{hosts[0]}", *self._origins) for origin in origins):
            raise HostRefused("Pages of that origin may not call this server; add it to allowed_origins if they may.")

    def _check_key(self, headers: Headers) -> None:
        if not self._keys:
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = headers.get("x-api-key") or (token.strip() if scheme.lower() == "bearer" else "")
        if not any([hmac.compare_digest(given.encode(), key) for key in self._keys]):
            raise InvalidApiKey("The API key is missing or wrong: send one of api_keys as a Bearer token.")


def _counted(receive: Receive, limit: int, too_large: BodyTooLarge) -> Receive:
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise too_large
        return message

    return counted
