"""The tool `chat`: a question, or a conversation with tools, for a model that writes text."""

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import mcp_types as mcp
import msgspec

from engines.models import sampling_defaults
from engines.types import json_border
from engines.types.chat import (
    ChatRequest,
    Constraint,
    Delta,
    Done,
    Message,
    Sampling,
    Thinking,
    Tool,
    ToolChoice,
)
from engines.types.common import Accepted, Adjusted
from engines.types.errors import InvalidRequest
from engines.types.field_reader import LONGEST, FieldReader
from engines.types.openai_messages import messages, reply, tool_choice, tools
from mcp_server.tools.arguments import Value
from mcp_server.tools.progress import ProgressMeter
from mcp_server.tools.tool import Context, McpTool

DEFAULT_MODEL = "qwen3-14b"
CUT = "[incomplete: the answer was cut at its token limit; ask to continue, or raise max_tokens]"


CHAT = mcp.Tool(
    name="chat",
    title="Chat with a local model",
    description=(
        "Ask a language model that runs on this computer, offline. Answers with the model's text. If you give tools "
        "and the model calls some, the answer is its message as JSON, with tool_calls: add it to messages, and behind "
        'it each result as {"role": "tool", "tool_call_id": ID, "content": TEXT}; then ask again without a prompt.'
    ),
    input_schema={
        "type": "object",
        "properties": {
            "prompt": {"type": "string", "description": "What to ask. May be left out where messages are given."},
            "model": {
                "type": "string",
                "description": f"Name of a chat model, see models; {DEFAULT_MODEL} if absent.",
            },
            "system": {"type": "string", "description": "Instructions that stand before everything."},
            "messages": {
                "type": "string",
                "description": (
                    "The conversation before the prompt, as JSON: a list of OpenAI's messages "
                    "(role user, assistant or tool; content; an assistant's tool_calls)."
                ),
            },
            "tools": {
                "type": "string",
                "description": (
                    "Functions that the model may call, as JSON: a list of objects with name, description and "
                    "parameters (a JSON schema)."
                ),
            },
            "tool_choice": {
                "type": "string",
                "description": "auto (if absent), none, required, or the name of the tool that must be called.",
            },
            "temperature": {
                "type": "number",
                "description": "0 (always the likeliest word) to 2; what the model's makers chose, else 1, if absent.",
            },
            "max_tokens": {
                "type": "integer",
                "description": "Length of the answer; as long as it needs if absent.",
            },
            "thinking": {
                "type": "boolean",
                "description": "false: answer at once; true: think first. What the model does by itself if absent.",
            },
            "json_schema": {
                "type": "string",
                "description": "A JSON schema, as text. The answer is then a JSON document that matches it.",
            },
        },
        "required": [],
    },
    annotations=mcp.ToolAnnotations(
        title="Chat with a local model", read_only_hint=True, destructive_hint=False, open_world_hint=False
    ),
)


class ChatTool(McpTool):
    schema = CHAT

    async def call(self, given: Mapping[str, Value], context: Context) -> mcp.CallToolResult:
        said: list[Delta] = []
        meter = ProgressMeter(context.progress)
        adjusted: tuple[Adjusted, ...] = ()
        done: Done | None = None
        async with aclosing(context.inference.chat(parsed(given, context.trace))) as events:
            async for event in events:
                if isinstance(event, Accepted):
                    adjusted = event.adjusted
                elif isinstance(event, Delta):
                    said.append(event)
                    await meter.add(len(event.text))
                elif isinstance(event, Done):
                    await meter.report()
                    done = event
        assert done is not None
        return _result(said, done, adjusted)


def _result(said: list[Delta], done: Done, adjusted: tuple[Adjusted, ...]) -> mcp.CallToolResult:
    """The text, for clients differ in which half of a structured result their model sees; calls as JSON."""
    message = reply(said, done)
    calls = "tool_calls" in message
    text = msgspec.json.encode(message).decode() if calls else message["content"]
    blocks: list[mcp.ContentBlock] = [mcp.TextContent(type="text", text=text)]
    meta: dict[str, Any] = {"timings": msgspec.to_builtins(done.timings)}
    if adjusted:
        meta["adjusted_fields"] = [msgspec.to_builtins(one) for one in adjusted]
    if done.finish_reason == "length":
        blocks.append(mcp.TextContent(type="text", text=CUT))
        meta["incomplete"] = {"reason": "length"}
    return mcp.CallToolResult(content=blocks, structured_content=message if calls else None, _meta=meta)


def parsed(given: Mapping[str, Value], trace: str) -> ChatRequest:
    """Arguments → a request. Raises `InvalidRequest`, naming the argument."""
    temperature = float(given.get("temperature", 1.0))
    if not 0 <= temperature <= 2:
        raise InvalidRequest("The argument temperature must be from 0 to 2.", param="temperature")
    max_tokens = min(int(given["max_tokens"]), LONGEST - 1) if "max_tokens" in given else None
    if max_tokens is not None and max_tokens < 1:
        raise InvalidRequest("The argument max_tokens must be at least 1.", param="max_tokens")
    known = _tools(given)
    return ChatRequest(
        model=str(given.get("model", DEFAULT_MODEL)),
        messages=_messages(given),
        sampling=Sampling(
            temperature=temperature,
            max_tokens=max_tokens,
            unset=tuple(name for name in sampling_defaults.NAMES if name not in given),
        ),
        trace=trace,
        tools=known,
        tool_choice=_tool_choice(given, known),
        constraint=_constraint(given) if "json_schema" in given else None,
        thinking=Thinking(bool(given["thinking"]) if "thinking" in given else None),
    )


def _messages(given: Mapping[str, Value]) -> tuple[Message, ...]:
    found: list[Message] = []
    if "system" in given:
        found.append(Message("system", str(given["system"])))
    if "messages" in given:
        read, unknown = messages(FieldReader({"messages": _json(given, "messages")}))
        if unknown:
            raise InvalidRequest(f"{', '.join(sorted(unknown))}: nothing here knows these.", param="messages")
        found += read
    if str(given.get("prompt", "")).strip():
        found.append(Message("user", str(given["prompt"])))
    elif "prompt" in given or "messages" not in given:
        what = "empty" if "prompt" in given else "missing"
        raise InvalidRequest(f"The argument prompt is {what}: say what to ask.", param="prompt")
    return tuple(found)


def _tools(given: Mapping[str, Value]) -> tuple[Tool, ...]:
    """Bare functions, or as OpenAI wraps them."""
    if "tools" not in given:
        return ()
    listed = _json(given, "tools")
    if not isinstance(listed, list):
        raise InvalidRequest("The argument tools must be a JSON list of functions.", param="tools")
    bare = [isinstance(one, dict) and "function" not in one and "name" in one for one in listed]
    wrapped = [
        {"type": "function", "function": one} if is_bare else one for one, is_bare in zip(listed, bare, strict=True)
    ]
    return tools(FieldReader({"tools": wrapped}))


def _tool_choice(given: Mapping[str, Value], known: tuple[Tool, ...]) -> ToolChoice:
    choice: Any = given.get("tool_choice")
    if choice is not None and choice not in ("auto", "none", "required"):
        choice = {"type": "function", "function": {"name": choice}}
    return tool_choice(FieldReader({"tool_choice": choice}), known)


def _constraint(given: Mapping[str, Value]) -> Constraint:
    schema = _json(given, "json_schema")
    if not isinstance(schema, dict):
        raise InvalidRequest("The argument json_schema must be a JSON schema, as text.", param="json_schema")
    return Constraint("json_schema", schema, "json_schema")


def _json(given: Mapping[str, Value], name: str) -> Any:
    """What an argument holds as JSON text. Raises `InvalidRequest` with the place in it."""
    return json_border.decode(str(given[name]), name)
