"""A conversation as a chat template wants it: pure changes of messages and tools, before anything is rendered."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from engines.chat.tooltext import call_text, response_text, tools_block
from engines.json_border import object_or_text
from engines.types import Message, Tool

Turn = dict[str, Any]


def arranged(
    messages: Sequence[Message], tools: Sequence[Tool], *, knows_tools: bool, alternates: bool
) -> tuple[list[Message], list[Tool]]:
    """The messages and tools to render.

    For a template that knows no tools, they go into the system text, calls into the assistant's and results into the
    user's. For one that demands that user and assistant alternate, system texts become one at the top, and neighbours
    of one role one message.
    """
    turns = list(messages)
    if not knows_tools:
        turns = _with_tools_as_text(turns, tools)
    return (_alternating(turns) if alternates else turns), [*tools] if knows_tools else []


def definition(tool: Tool) -> Turn:
    """The tool as templates and models know it."""
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def turn(message: Message) -> Turn:
    """The message as templates know it."""
    made: Turn = {"role": message.role, "content": message.content}
    if message.reasoning:
        made["reasoning_content"] = message.reasoning
    if message.tool_calls:
        made["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _value(call.arguments)}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        made["tool_call_id"] = message.tool_call_id
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


def _value(arguments: str) -> Any:
    return object_or_text(arguments)


def _with_tools_as_text(messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
    turns: list[Message] = []
    for is_result, group in groupby(messages, key=lambda message: message.role == "tool"):
        if is_result:
            turns.append(Message("user", "\n".join(response_text(message.content) for message in group)))
        else:
            turns += [_with_calls_as_text(message) for message in group]
    if not tools:
        return turns
    block = tools_block([definition(tool) for tool in tools])
    if turns and turns[0].role == "system":
        return [Message("system", f"{turns[0].content}\n\n{block}"), *turns[1:]]
    return [Message("system", block), *turns]


def _with_calls_as_text(message: Message) -> Message:
    if not message.tool_calls:
        return message
    calls = [call_text(call.name, _value(call.arguments)) for call in message.tool_calls]
    return Message(message.role, "\n".join([*([message.content] if message.content else []), *calls]))


def _alternating(messages: Sequence[Message]) -> list[Message]:
    system = [message.content for message in messages if message.role == "system"]
    turns = [Message("system", "\n\n".join(system))] if system else []
    for message in messages:
        if message.role == "system":
            continue
        if turns and turns[-1].role == message.role:
            last = turns[-1]
            turns[-1] = Message(
                message.role,
                f"{last.content}\n\n{message.content}",
                "\n\n".join(filter(None, (last.reasoning, message.reasoning))),
                last.tool_calls + message.tool_calls,
            )
        else:
            turns.append(message)
    return turns
