"""OpenAI's JSON of conversations ↔ `engines.types.chat`: messages and tools in, the model's message out.

Pure. Both fronts speak it; every error names the place.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from engines.types import json_border
from engines.types.chat import (
    CallDelta,
    Delta,
    Done,
    Message,
    Role,
    Tool,
    ToolCall,
    ToolChoice,
)
from engines.types.common import Json
from engines.types.errors import InvalidRequest, UnsupportedField
from engines.types.field_reader import FieldReader

ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_MESSAGE_FIELDS = frozenset("role content reasoning_content reasoning tool_calls tool_call_id refusal".split())
_TEXT_PARTS = {"text": "text", "refusal": "refusal"}


def messages(body: FieldReader) -> tuple[tuple[Message, ...], set[str]]:
    """The conversation, with tools' results in the order of their calls; and names of fields that nothing knows."""
    if not isinstance(body.raw("messages"), list) or not body.raw("messages"):
        raise body.error("messages", "a list of at least one message")
    ignored: set[str] = set()
    read: list[Message] = []
    results = _Results()
    for fields in body.objects("messages"):
        message = _message(fields)
        ignored |= {f"messages.{name}" for name in fields.names - _MESSAGE_FIELDS}
        if message.role == "tool":
            results.add(message, fields)
            continue
        read += results.whole()
        read.append(message)
        results = _Results(message.tool_calls, fields)
    return (*read, *results.whole()), ignored


def tools(body: FieldReader) -> tuple[Tool, ...]:
    read: list[Tool] = []
    for fields in body.objects("tools"):
        if fields.raw("type") != "function":
            raise UnsupportedField(f"{fields.place('type')} must be function.", param=fields.place("type"))
        tool = _tool(fields.object("function"))
        if tool.name in (other.name for other in read):
            place = f"{fields.place('function')}.name"
            raise InvalidRequest(f"{place} is {tool.name}, which another tool is called already.", param=place)
        read.append(tool)
    return tuple(read)


def tool_choice(body: FieldReader, known: Sequence[Tool]) -> ToolChoice:
    parallel = body.flag("parallel_tool_calls", True)
    asked = body.raw("tool_choice")
    if isinstance(asked, dict):
        name = body.object("tool_choice").object("function").raw("name")
        if asked.get("type") != "function" or name not in (tool.name for tool in known):
            names = ", ".join(tool.name for tool in known) or "none"
            raise body.error("tool_choice", f"a function among the tools ({names}), or auto, none or required")
        return ToolChoice("named", str(name), parallel)
    mode = body.one_of("tool_choice", ("auto", "none", "required"), "auto")
    if mode == "required" and not known:
        raise InvalidRequest("tool_choice is required, but there are no tools.", param="tool_choice")
    return msgspec.structs.replace(ToolChoice(parallel=parallel), mode=mode)


def reply(said: Sequence[Delta], done: Done) -> Json:
    """The model's whole message. Calls that were cut are no calls: what was written of them is content."""
    calls = _calls(call for delta in said for call in delta.calls if call.index not in done.unfinished_calls)
    text = "".join(delta.text for delta in said) + done.unfinished_text
    reasoning = "".join(delta.reasoning for delta in said)
    message: Json = {"role": "assistant", "content": text if text or not calls else None}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls
    return message


def _calls(deltas: Iterable[CallDelta]) -> list[Json]:
    calls: dict[int, Json] = {}
    for delta in deltas:
        if delta.id:
            function = {"name": delta.name, "arguments": ""}
            calls[delta.index] = {"id": delta.id, "type": "function", "function": function}
        calls[delta.index]["function"]["arguments"] += delta.arguments
    return list(calls.values())


def _tool(fields: FieldReader) -> Tool:
    name = fields.text("name", "")
    if not 0 < len(name) <= 128 or not name.isprintable() or any(character.isspace() for character in name):
        raise fields.error("name", "a name of 1 to 128 characters without blanks")
    schema = fields.raw("parameters")
    if schema is not None and not isinstance(schema, dict):
        raise fields.error("parameters", "a JSON schema")
    return Tool(name, fields.text("description", ""), schema or {}, fields.flag("strict", False))


def _message(fields: FieldReader) -> Message:
    role = fields.one_of("role", tuple(ROLES), None)
    if role is None:
        raise fields.error("role", f"one of {', '.join(ROLES)}")
    calls = tuple(_call(call) for call in fields.objects("tool_calls"))
    if calls and role != "assistant":
        raise InvalidRequest(
            f"{fields.place('tool_calls')}: only an assistant calls tools.", param=fields.place("tool_calls")
        )
    return Message(
        ROLES[role],
        _content(fields, optional=role == "assistant"),
        fields.text("reasoning_content", "") or fields.text("reasoning", ""),
        calls,
        fields.text("tool_call_id", "") if role == "tool" else "",
    )


def _call(fields: FieldReader) -> ToolCall:
    function = fields.object("function")
    name = function.text("name", "")
    if not name:
        raise function.error("name", "the name of the function that was called")
    return ToolCall(fields.text("id", ""), name, _arguments(function.raw("arguments")))


def _arguments(given: object) -> str:
    """What the model wrote once, whatever it is: a conversation must go on behind a call that was cut or is no JSON."""
    text = given if isinstance(given, str) else "" if given is None else msgspec.json.encode(given).decode()
    return json_border.without_halves(text) if text.strip() else "{}"


class _Results:
    """The results of one message's calls. Templates know them by their order alone: it must be that of the calls.

    `asked` is the message that calls. Raises `InvalidRequest`, with the place, for what is no result of these calls.
    """

    def __init__(self, calls: Sequence[ToolCall] = (), asked: FieldReader | None = None) -> None:
        self._ids = [call.id for call in calls]
        self._asked = asked
        self._given: dict[str, Message] = {}

    def add(self, result: Message, fields: FieldReader) -> None:
        id = result.tool_call_id
        if not id or self._ids.count(id) != 1:
            known = ", ".join(filter(None, self._ids)) or "it makes none"
            raise fields.error("tool_call_id", f"the id of one call of the assistant's message before it ({known})")
        if id in self._given:
            raise fields.error("tool_call_id", f"another one: {id} has its result already")
        self._given[id] = result

    def whole(self) -> list[Message]:
        """All of them; none is fine as well, for a call may have been broken off."""
        if self._given and self._asked is not None:
            for id, call in zip(self._ids, self._asked.objects("tool_calls"), strict=True):
                if id not in self._given:
                    raise call.error("id", "answered by a message of the role tool, as the other calls are")
        return [self._given[id] for id in self._ids if id in self._given]


def _content(fields: FieldReader, optional: bool) -> str:
    value = fields.raw("content")
    if isinstance(value, str):
        return value
    if value is None and optional:
        return ""
    if not isinstance(value, list):
        raise fields.error("content", "a string or a list of parts")
    return "".join(_part(part) for part in fields.objects("content"))


def _part(part: FieldReader) -> str:
    kind = part.raw("type")
    if not isinstance(kind, str) or kind not in _TEXT_PARTS:
        raise UnsupportedField(
            f"{part.place('type')} must be text: the model reads nothing else.", param=part.place("type")
        )
    name = _TEXT_PARTS[kind]
    if not isinstance(part.raw(name), str):
        raise part.error(name, "a string")
    return str(part.raw(name))
