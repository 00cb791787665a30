"""Before and around every route: the request's id, who may ask, how long a body may be, and how errors are told."""

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engines.types.errors import (
    BodyTooLarge,
    HostRefused,
    InternalError,
    InvalidApiKey,
    MethodRefused,
    ServiceError,
    UnknownRoute,
    shortage,
    stopping,
)
from engines.types.trace import current
from http_server import cors
from http_server.callers import Callers
from http_server.encoding import TAKEN, inflated
from http_server.response_headers import ignored

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
    if error.status == 415:
        headers["Accept-Encoding"] = TAKEN
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
        OSError: _system_error,
        Exception: _unexpected,
    }


async def _left(request: Request, error: ClientDisconnect) -> Response:
    """Nobody reads it: a client that leaves is no failure, and not worth a traceback in the log."""
    return Response(status_code=499)


async def _service_error(request: Request, error: ServiceError) -> Response:
    return answer(error)


async def _system_error(request: Request, error: OSError) -> Response:
    """A want of disk or descriptors is told as that; anything else is as unexpected as all the rest."""
    if (known := shortage(error)) is not None:
        return answer(known)
    log.error("request %s failed", request.scope["state"]["trace"], exc_info=error)
    return await _unexpected(request, error)


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
    """The outermost layer: gives every answer its `X-Request-Id`, and lets pages read it; every failure its shape."""

    def __init__(self, app: ASGIApp, callers: Callers) -> None:
        self._app = app
        self._callers = callers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope)
        asked, origin = given.get("x-request-id", ""), given.get("origin", "")
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
                self._show(headers, origin)
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

    def __init__(self, app: ASGIApp, callers: Callers, keys: Sequence[str], limits: Limits) -> None:
        self._app = app
        self._callers = callers
        self._keys = [(spelling, _tenant(key)) for key in keys for spelling in _spellings(key)]
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        self._check_host(headers)
        if cors.is_preflight(scope["method"], headers) and self._callers.allows(headers.get("origin", "")):
            await Response(status_code=204, headers=cors.preflight(headers))(scope, receive, send)
            return
        if scope["path"] != "/health":
            scope.setdefault("state", {})["tenant"] = self._check_key(headers)
        limit, setting = self._limits.of(scope["path"], headers)
        too_large = BodyTooLarge(f"The body is larger than {limit} bytes ({setting}).")
        declared = headers.get("content-length", "")
        if re.fullmatch(r"[0-9]{1,19}", declared) and int(declared) > limit:
            raise too_large  # before a client sends it in vain
        whole, read = inflated(scope, _counted(receive, limit, too_large))
        await self._app(whole, read if whole is scope else _counted(read, limit, too_large), send)

    def _check_host(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._callers.knows(hosts[0]):
            raise HostRefused("This server isn't called by that Host name; add it to allowed_hosts if it should be.")
        origins = headers.getlist("origin")
        mine = [origin for origin in origins if self._callers.is_own(origin, hosts[0]) or self._callers.allows(origin)]
        if len(origins) > 1 or mine != origins:
            raise HostRefused("Pages of that origin may not call this server; add it to allowed_origins if they may.")

    def _check_key(self, headers: Headers) -> str:
        """Whose request it is, "" where there are no keys. Raises `InvalidApiKey`."""
        if not self._keys:
            return ""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        sent = headers.get("x-api-key") or (token if scheme.lower() == "bearer" else "")
        given = sent.encode("latin-1").strip(b" \t")  # the bytes, as they were sent
        owners = [tenant for key, tenant in self._keys if hmac.compare_digest(given, key)]
        if not owners:
            raise InvalidApiKey("The API key is missing or wrong: send one of api_keys as a Bearer token.")
        return owners[0]


def _tenant(key: str) -> str:
    """What stands for a key where requests are told apart by it: the key itself goes no further."""
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()


def _spellings(key: str) -> list[bytes]:
    """The bytes that clients may send for a key: most encode what isn't ASCII as UTF-8, some as Latin-1."""
    spellings = [key.encode()]
    with suppress(UnicodeEncodeError):
        spellings.append(key.encode("latin-1"))
    return spellings


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
