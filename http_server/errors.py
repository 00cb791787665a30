"""Failures as answers: with their status, in the dialect of the API that was called."""

import logging
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from engines.types.errors import InternalError, MethodRefused, ServiceError, UnknownRoute, shortage
from http_server.dialect import Dialect
from http_server.encoding import TAKEN

log = logging.getLogger("http")


def answer(error: ServiceError, dialect: Dialect) -> JSONResponse:
    """An error as a whole answer. What is the server's fault is logged as well."""
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
    return JSONResponse(dialect.error(error), error.status, headers)


def error_handlers() -> Mapping[Any, Any]:
    """What routes raise and what the router refuses. `Boundary` has put the dialect into the request's state."""
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
    return _answer(request, error)


async def _system_error(request: Request, error: OSError) -> Response:
    """A want of disk or descriptors is told as that; anything else is as unexpected as all the rest."""
    if (known := shortage(error)) is not None:
        return _answer(request, known)
    log.error("request %s failed", request.scope["state"]["trace"], exc_info=error)
    return await _unexpected(request, error)


async def _unexpected(request: Request, error: Exception) -> Response:
    """Starlette raises it again behind this answer, so that `Boundary` logs it."""
    trace = request.scope["state"]["trace"]
    return _answer(request, InternalError(f"The request failed; the server's log says why (request {trace})."))


async def _routing_error(request: Request, error: HTTPException) -> Response:
    at = f"{request.method} {request.url.path}"
    if error.status_code == 404:
        return _answer(request, UnknownRoute(f"There is no {at} here. Try /v1/models or /v1/chat/completions."))
    response = _answer(
        request, MethodRefused(f"{at}: this path takes {(error.headers or {}).get('Allow', 'another method')}.")
    )
    response.headers.update(error.headers or {})
    return response


def _answer(request: Request, error: ServiceError) -> JSONResponse:
    dialect: Dialect = request.scope["state"]["dialect"]
    return answer(error, dialect)
