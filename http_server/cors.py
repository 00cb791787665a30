"""What browsers must be told so that a page from elsewhere may read answers (CORS). Pure."""

import re
from collections.abc import Mapping

from starlette.datastructures import MutableHeaders

METHODS = "GET, HEAD, POST, DELETE, OPTIONS"
USUAL_HEADERS = "Authorization, Content-Type, X-Api-Key, X-Request-Id, Mcp-Session-Id, Mcp-Protocol-Version"
# What a page may read of an answer's headers, beside those that browsers show always.
EXPOSED = (
    *("X-Request-Id", "X-Ignored-Fields", "X-Adjusted-Fields", "X-Incomplete", "X-Audio-Track", "X-Should-Retry"),
    *("Retry-After", "WWW-Authenticate", "Allow", "Content-Disposition", "Mcp-Session-Id", "Mcp-Protocol-Version"),
)
MAX_AGE_SECONDS = 600

_ASKED = ("Access-Control-Request-Method", "Access-Control-Request-Headers", "Access-Control-Request-Private-Network")
_NAMES = re.compile(r"[\w!#$%&'*+.^`|~-]+(?:[ \t]*,[ \t]*[\w!#$%&'*+.^`|~-]+)*", re.ASCII)


def is_preflight(method: str, asked: Mapping[str, str]) -> bool:
    """Whether a browser asks what it may send, before it does."""
    return method == "OPTIONS" and "access-control-request-method" in asked


def preflight(asked: Mapping[str, str]) -> dict[str, str]:
    """The headers of the answer to a preflight of a page that may call, beside `show`'s."""
    wanted = asked.get("access-control-request-headers", "").strip()
    names = {name.strip().lower(): name.strip() for name in USUAL_HEADERS.split(",")}
    if _NAMES.fullmatch(wanted):
        names |= {name.strip().lower(): name.strip() for name in wanted.split(",")}
    told = {
        "Access-Control-Allow-Methods": METHODS,
        "Access-Control-Allow-Headers": ", ".join(names.values()),
        "Access-Control-Max-Age": str(MAX_AGE_SECONDS),
        "Vary": ", ".join(_ASKED),
    }
    if asked.get("access-control-request-private-network") == "true":
        told["Access-Control-Allow-Private-Network"] = "true"
    return told


def show(headers: MutableHeaders, origin: str) -> None:
    """Let a page of this origin read the answer with these headers, whatever it is: an error, a stream."""
    headers["Access-Control-Allow-Origin"] = origin
    headers["Access-Control-Allow-Credentials"] = "true"
    headers["Access-Control-Expose-Headers"] = ", ".join(EXPOSED)
