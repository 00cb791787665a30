"""A conversation as a chat template wants it: pure changes of messages and tools, before anything is rendered."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from engines.runner.chat.tool_text import call_text, response_text, tools_block
from engines.runner.chat.turn_order import Manners, ordered
from engines.types.chat import Message, TextPart, Tool
from engines.types.errors import UnsupportedField
from engines.types.json_border import object_or_text

Turn = dict[str, Any]


def arranged(
    messages: Sequence[Message], tools: Sequence[Tool], *, knows_tools: bool, manners: Manners
) -> tuple[list[Message], list[Tool]]:
    """The messages and tools to render, in an order that the template renders (`engines.runner.chat.turn_order`).

    For a template that knows no tools, they go into the system text; for one that has no turns for calls and their
    results, those go into the assistant's text and the user's.
    """
    turns = list(messages)
    if not manners.calls:
        turns = _with_calls_as_text(turns)
    if not knows_tools:
        turns = _with_tools_as_text(turns, tools)
    return ordered(turns, manners), [*tools] if knows_tools else []


def check_text_alone(messages: Sequence[Message]) -> None:
    """Raises `UnsupportedField`, with the place, for a part that isn't text."""
    for number, message in enumerate(messages):
        parts = () if isinstance(message.content, str) else message.content
        for place, part in enumerate(parts):
            if not isinstance(part, TextPart):
                at = f"messages[{number}].content[{place}].type"
                raise UnsupportedField(f"{at} must be text: the model reads nothing else.", param=at)


def definition(tool: Tool) -> Turn:
    """The tool as templates and models know it."""
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def turn(message: Message, manners: Manners) -> Turn:
    """The message as templates know it."""
    made: Turn = {"role": message.role, "content": message.text}
    if message.reasoning:
        made["reasoning_content"] = made["thinking"] = message.reasoning
    if message.tool_calls:
        made["tool_calls"] = [
            {
                "id": _id(call.id, manners),
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call.arguments, manners)},
            }
            for call in message.tool_calls
        ]
    if message.role == "tool" and (message.tool_call_id or manners.short_ids):
        made["tool_call_id"] = _id(message.tool_call_id, manners)
    return made


def mapped(value: Any, change: Callable[[str], str]) -> Any:
    """The value with every string in it changed, keys too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(str(key)): mapped(one, change) for key, one in value.items()}
    return [mapped(one, change) for one in value] if isinstance(value, list | tuple) else value


def strings(value: Any) -> Iterator[str]:
    """Every string in a value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield str(key)
            yield from strings(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from strings(one)


def _arguments(text: str, manners: Manners) -> Any:
    """A call's arguments: an object, or what was written where it is none."""
    value = object_or_text(text or "{}")
    if manners.json_arguments:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return {"arguments": value} if isinstance(value, str) and not manners.text_arguments else value


def _id(id: str, manners: Manners) -> str:
    """A call's id; where it must be short, nine letters that follow from it (Mistral's templates demand them)."""
    if not manners.short_ids or re.fullmatch("[a-zA-Z0-9]{9}", id):
        return id
    return hashlib.sha256(id.encode()).hexdigest()[:9]


def _with_calls_as_text(messages: Sequence[Message]) -> list[Message]:
    turns: list[Message] = []
    for is_result, group in groupby(messages, key=lambda message: message.role == "tool"):
        if is_result:
            turns.append(Message("user", "\n".join(response_text(message.text) for message in group)))
        else:
            turns += [_with_call_as_text(message) for message in group]
    return turns


def _with_call_as_text(message: Message) -> Message:
    if not message.tool_calls:
        return message
    calls = [call_text(call.name, object_or_text(call.arguments or "{}")) for call in message.tool_calls]
    return Message(message.role, "\n".join([*([message.text] if message.text else []), *calls]), message.reasoning)


def _with_tools_as_text(messages: list[Message], tools: Sequence[Tool]) -> list[Message]:
    if not tools:
        return messages
    block = tools_block([definition(tool) for tool in tools])
    if messages and messages[0].role == "system":
        return [Message("system", f"{messages[0].text}\n\n{block}"), *messages[1:]]
    return [Message("system", block), *messages]
