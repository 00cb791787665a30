"""An agent's session as its relay keeps it: it outlives the processes of the service.

Pure: lines of JSON-RPC go in, bytes for both sides come out. A new process is told the agent's `initialize` and
`notifications/initialized` again. Nothing else is ever sent twice, because tools write files: a request that a process
took with it is answered with an error.
"""

import _json

TYPE_CHECKING = False  # that of `typing`, which costs time
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

MAX_LINE = 4 << 20
MOST_FAILURES = 3  # processes in a row that end before they could be told what waits, until the agent hears of it

REQUEST, ANSWER, NOTIFICATION, UNCLEAR = "request", "answer", "notification", "unclear"
ABSENT, OPENING, READY = "absent", "opening", "ready"

INVALID_REQUEST, INTERNAL_ERROR = -32600, -32603


class RpcMessage:
    """A line, and what a relay must know of it. What can't be read is `UNCLEAR`; its sender may wait for an answer."""

    def __init__(self, line: bytes) -> None:
        self.line = line
        read = _read(line)
        body: dict[str, Any] = read if isinstance(read, dict) else {}
        params = body.get("params")
        self.method = body.get("method")
        self.id = body.get("id")
        self.kind = self._kind(body)
        self.has_result = "result" in body
        # The id of the request that a notification takes back, if it is one that does.
        self.cancelled = params.get("requestId") if isinstance(params, dict) else None

    def _kind(self, body: "dict[str, Any]") -> str:
        """What is wrong, but has an id, is a request: the service answers it as one."""
        if "id" not in body:
            return NOTIFICATION if isinstance(self.method, str) else UNCLEAR
        if "method" not in body and ("result" in body or "error" in body):
            return ANSWER
        return REQUEST if _is_id(self.id) else UNCLEAR


class Session:
    """Between one agent and whichever process of the service is there. The caller sends what is in the two outboxes.

    Each request of the agent is answered once, by the service or with an error, unless the agent has taken it back.
    """

    def __init__(self) -> None:
        self.to_client = bytearray()
        self.to_service = bytearray()
        self.phase = ABSENT
        self._waiting: list[RpcMessage] = []  # no process was given these
        self._asked: list[RpcMessage] = []  # this process has them, and hasn't answered
        self._questions: list[Any] = []  # ids of what this process has asked the agent
        self._opening: RpcMessage | None = None  # the `initialize` that was accepted
        self._opened: bytes | None = None
        self._failures = 0

    @property
    def holds(self) -> int:
        """The bytes that the service must still take before it gets any more."""
        return len(self.to_service) + sum(len(message.line) for message in self._waiting)

    @property
    def wants_service(self) -> bool:
        """Whether something waits for a process, and there is none."""
        return self.phase == ABSENT and bool(self._waiting)

    # -- the agent's side ---------------------------------------------------------------------------------------------

    def from_client(self, line: bytes) -> None:
        message = RpcMessage(line)
        if len(line) > MAX_LINE:
            self._tell([message], INVALID_REQUEST, f"A message may have {MAX_LINE} bytes at most.")
        elif message.kind == NOTIFICATION:
            self._notify(message)
        elif message.kind == ANSWER:
            # The process that asked may be gone; the next one would take the answer for one to its own question.
            if message.id in self._questions:
                self._questions.remove(message.id)
                self._send(line)
        elif self.phase == READY:
            self._ask(message)
        else:
            self._waiting.append(message)

    def _notify(self, message: RpcMessage) -> None:
        """Pass a notification on to the process that it concerns; any other has no use for it."""
        if message.method == "notifications/initialized":
            self._opened = message.line
        if message.method == "notifications/cancelled":
            id = message.cancelled
            if _take(self._waiting, id) is not None or _take(self._asked, id) is None:
                return
        if self.phase == READY:
            self._send(message.line)

    def _ask(self, message: RpcMessage) -> None:
        if message.kind == REQUEST:
            self._asked.append(message)
        self._send(message.line)

    def _send(self, line: bytes) -> None:
        self.to_service += line + b"\n"

    # -- the service's side -------------------------------------------------------------------------------------------

    def connected(self) -> None:
        """A new process is there; it knows nothing."""
        if self._opening is None:
            self._ready()
        else:
            self.phase = OPENING
            self._send(self._opening.line)

    def from_service(self, line: bytes) -> None:
        message = RpcMessage(line)
        if message.kind == ANSWER and not self._awaited(message):
            return
        if message.kind == REQUEST:
            self._questions.append(message.id)
        self.to_client += line + b"\n"

    def _awaited(self, answer: RpcMessage) -> bool:
        """Whether the agent awaits this answer; one without an id is to a line that the service couldn't read."""
        if self.phase == OPENING and self._opening is not None and answer.id == self._opening.id:
            self._reopened(answer)
            return False
        asked = _take(self._asked, answer.id)
        self._failures = 0
        if asked is not None and asked.method == "initialize" and answer.has_result:
            self._opening = asked
        return asked is not None or answer.id is None

    def _reopened(self, answer: RpcMessage) -> None:
        if answer.has_result:
            if self._opened is not None:
                self._send(self._opened)
            self._ready()
        else:
            self._gone()
            self.unreachable("The service was replaced by one that refuses this session; start the agent anew.")

    def _ready(self) -> None:
        self.phase = READY
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            self._ask(message)

    def lost(self, told: str) -> None:
        """The process is gone. `told`, for what it had begun, says what to do.

        An `initialize`, and what stands whole in the outbox still, is for the next one.
        """
        unsent = bytes(self.to_service).split(b"\n")
        asked = self._asked
        again = [message for message in asked if message.method == "initialize" or message.line in unsent]
        self._failures += bool(again) or self.phase == OPENING
        self._gone()
        self._tell([message for message in asked if message not in again], INTERNAL_ERROR, told)
        self._waiting[:0] = again
        if self._failures >= MOST_FAILURES:
            self._failures = 0
            self.unreachable(told)

    def _gone(self) -> None:
        self.phase = ABSENT
        self._asked, self._questions = [], []
        self.to_service.clear()

    def unreachable(self, told: str) -> None:
        """No process could be found or started: what waits for one is answered with this error."""
        waiting, self._waiting = self._waiting, []
        self._tell(waiting, INTERNAL_ERROR, told)

    def _tell(self, messages: "Iterable[RpcMessage]", code: int, told: str) -> None:
        import json

        for message in messages:
            if message.kind in (REQUEST, UNCLEAR):
                id = message.id if message.kind == REQUEST else None
                error = {"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": told}}
                self.to_client += json.dumps(error).encode() + b"\n"


def _is_id(value: object) -> bool:
    """Whether the standard allows it as a request's id: text, a number (not NaN, not endless) or null."""
    if isinstance(value, float):
        return value - value == 0
    return value is None or (isinstance(value, str | int) and not isinstance(value, bool))


def _take(messages: list[RpcMessage], id: object) -> RpcMessage | None:
    """The first of them with this id, which is no longer among them; None if there is none."""
    for place, message in enumerate(messages):
        if message.id == id and message.kind == REQUEST:
            return messages.pop(place)
    return None


class _ClientReading:
    """What `json` would tell its scanner; `json` itself would add half to the time in which a relay starts."""

    strict = False
    object_hook = object_pairs_hook = array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: "dict[str, str]" = {}


_scan = _json.make_scanner(_ClientReading)  # type: ignore[arg-type]  # any object with these attributes will do


def _read(line: bytes) -> object:
    """The line's value, even if it is no good JSON and the service will say so; None if it has none."""
    text = line.decode(errors="replace").strip()
    try:
        try:
            return _whole(text)
        except RecursionError:
            return _whole(shallow(text))
    except (StopIteration, ValueError, RecursionError, SystemError):  # the last where it can't find `json`'s own error
        return None


def _whole(text: str) -> object:
    value, end = _scan(text, 0)
    return value if end == len(text) else None


def shallow(text: str) -> str:
    """An object too deep to be read, with null for all between its first bracket inside and the last: its id is there.

    It is no JSON where something else stands between them, or the text isn't whole.
    """
    inside = text.strip()[1:-1]
    opened = min((at for at in (inside.find("{"), inside.find("[")) if at >= 0), default=0)
    closed = max(inside.rfind("}"), inside.rfind("]"))
    return "{" + inside[:opened] + "null" + inside[closed + 1 :] + "}"
