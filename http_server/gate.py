"""Who may ask, and how long a body may be: decided before any work."""

import hashlib
import hmac
import re
from collections.abc import Sequence, Set
from contextlib import suppress
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engines.types.errors import BodyTooLarge, HostRefused, InvalidApiKey
from http_server import cors
from http_server.callers import Callers
from http_server.encoding import inflated


class GateLimits(NamedTuple):
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

    def __init__(self, app: ASGIApp, callers: Callers, keys: Sequence[str], limits: GateLimits) -> None:
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
