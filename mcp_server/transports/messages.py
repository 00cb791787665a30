"""JSON-RPC at the border: what a client sent → a message, or the error that the standard gives it. Pure.

The SDK knows ids that are strings or integers; the standard allows any number, and null. Those are given to it as
strings that hold their JSON, and are turned back in its answers.
"""

import json
import math
import re
from contextlib import suppress
from typing import Any, NamedTuple

import mcp_types as mcp

from engines.types import json_border
from engines.types.errors import InvalidRequest
from mcp_server.relay.session import shallow

Id = str | int | float | None
Body = dict[str, Any]

_FOREIGN = "id-as-json:"
_FOREIGN_ID = re.compile(rb'"id":("id-as-json:(?:[^"\\]|\\.)*")')
_LARGEST = 2**63


class Refused(NamedTuple):
    """What was sent is answered with this error; `id` is the request's own, None where none can be read."""

    id: Id
    code: int
    message: str

    def encoded(self) -> bytes:
        """As JSON, on one line."""
        error = {"code": self.code, "message": self.message}
        return json.dumps({"jsonrpc": "2.0", "id": self.id, "error": error}).encode()


def read(data: bytes) -> Body | Refused | None:
    """A message with an id that the SDK takes; None for a notification that is wrong, which nobody answers."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return _undecodable(data)
    try:
        body = json_border.decode(data)
    except InvalidRequest as error:
        return _unreadable(data, error)
    if not isinstance(body, dict):
        return Refused(None, mcp.INVALID_REQUEST, "A message is one JSON object; batches are not taken.")
    body = _exact(body, data)
    return _fault(body) or {**body, **_known(body)}


def encoded(message: mcp.JSONRPCMessage) -> bytes:
    """A message of the SDK's as JSON, with the id that its client gave."""
    id = getattr(message, "id", None)
    if isinstance(id, str) and id.startswith(_FOREIGN):
        message = message.model_copy(update={"id": json.loads(id.removeprefix(_FOREIGN))})
    return message.model_dump_json(by_alias=True, exclude_unset=True, warnings=False).encode()


def with_own_ids(encoded: bytes) -> bytes:
    """The same for messages that the SDK has written into an answer or an event already."""
    if _FOREIGN.encode() not in encoded:
        return encoded
    return _FOREIGN_ID.sub(lambda found: b'"id":' + json.loads(found[1])[len(_FOREIGN) :].encode(), encoded)


def is_foreign(id: str) -> bool:
    """Whether the SDK is given an id under this name."""
    return id.startswith(_FOREIGN)


def of_wrong_shape(body: Body) -> Refused:
    """For what the SDK's own types don't take, though it looked like a message here."""
    return Refused(None if _is_answer(body) else _answerable(body), mcp.INVALID_REQUEST, "This is no JSON-RPC message.")


def _undecodable(data: bytes) -> Refused | None:
    """Half a character, written as bytes, is told by its place; all else is no text at all."""
    try:
        json_border.check_text(json.loads(data.decode("utf-8", "surrogatepass")), "")
    except InvalidRequest as error:
        return _unreadable(data, error)
    except (ValueError, RecursionError):
        pass
    return Refused(_answerable(_guessed(data)), mcp.PARSE_ERROR, "This isn't UTF-8.")


def _unreadable(data: bytes, error: InvalidRequest) -> Refused | None:
    """JSON with something in it that can't be carried is a request with bad parameters; else it is no JSON."""
    body = _guessed(data)
    place = error.param or ""
    if not place or _is_number_unknown_to_json(data):
        return Refused(_answerable(body), mcp.PARSE_ERROR, f"This can't be read as JSON. {error.message}")
    if not place.startswith("params"):
        return Refused(_answerable(body), mcp.INVALID_REQUEST, error.message)
    return Refused(_answerable(body), mcp.INVALID_PARAMS, error.message) if "id" in body or not body else None


def _guessed(data: bytes) -> Body:
    """What a patient reader makes of it: enough to see whose request it is."""
    text = data.decode("utf-8", "surrogatepass" if _has_halves(data) else "replace")
    try:
        body = _loaded(text)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except RecursionError:
        return json.loads(shallow(text), strict=False)


def _is_number_unknown_to_json(data: bytes) -> bool:
    """Whether there is a NaN or Infinity, which Python would read."""
    found: list[str] = []
    with suppress(ValueError, RecursionError):
        json.loads(data.decode("utf-8", "replace"), parse_constant=found.append)
    return bool(found)


def _has_halves(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _exact(body: Body, data: bytes) -> Body:
    """With the ids as they were written: an integer that is large has become a double."""
    params = body.get("params")
    cancelled = params.get("requestId") if isinstance(params, dict) else None
    return json.loads(data) if isinstance(body.get("id"), float) or isinstance(cancelled, float) else body


def _fault(body: Body) -> Refused | None:
    is_answer = _is_answer(body)
    id = None if is_answer else _answerable(body)
    if "id" in body and not _is_id(body["id"]):
        return Refused(None, mcp.INVALID_REQUEST, "id must be a string, a number or null.")
    if body.get("jsonrpc") != "2.0":
        return Refused(id, mcp.INVALID_REQUEST, 'jsonrpc must be "2.0".')
    if is_answer:
        return None
    if not isinstance(body.get("method"), str):
        return Refused(id, mcp.INVALID_REQUEST, "method must be a string.")
    if isinstance(body.get("params"), list):
        return Refused(id, mcp.INVALID_PARAMS, "params must be an object: methods here know parameters by name.")
    if not isinstance(body.get("params"), dict | None):
        return Refused(id, mcp.INVALID_REQUEST, "params must be an object.")
    return None


def _is_answer(body: Body) -> bool:
    return "method" not in body and ("result" in body or "error" in body)


def _answerable(body: Body) -> Id:
    id: Any = body.get("id")
    return id if _is_id(id) else None


def _is_id(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or (isinstance(value, str | int) and not isinstance(value, bool))


def _known(body: Body) -> Body:
    """The ids in a message, as the SDK is given them; of a notification, that of the request that it takes back."""
    told: Body = {"id": _told(body["id"])} if "id" in body and "method" in body else {}
    params = body.get("params")
    if body.get("method") == "notifications/cancelled" and isinstance(params, dict) and _is_id(params.get("requestId")):
        told["params"] = {**params, "requestId": _told(params["requestId"])}
    return told


def _told(id: Any) -> str | int:
    if isinstance(id, int) and abs(id) < _LARGEST or isinstance(id, str) and not id.startswith(_FOREIGN):
        return id
    return _FOREIGN + json.dumps(id)
