"""The tools: what each is called, what it takes, and what it does on `Inference`.

Schemas are written by hand, flat, with one type a property: what every client accepts. The answer of a tool whose
result is text is that text alone, because clients differ in which half of a structured result their model sees.
"""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import anyio
import mcp_types as mcp
import msgspec

from engines.errors import InvalidRequest, ServiceError
from engines.inference import Inference
from engines.types import ChatRequest, Constraint, Delta, Done, Message, Sampling, Thinking
from mcp_server import arguments
from mcp_server.arguments import Value

DEFAULT_CHAT_MODEL = "qwen3-14b"
CUT = "[incomplete: the answer was cut at its token limit; ask to continue, or raise max_tokens]"
PROGRESS_SECONDS = 0.25

Progress = Callable[[float], Awaitable[None]]

CHAT = mcp.Tool(
    name="chat",
    title="Chat with a local model",
    description="Ask a language model that runs on this computer, offline. Answers with the model's text.",
    input_schema={
        "type": "object",
        "properties": {
            "prompt": {"type": "string", "description": "What to ask."},
            "model": {
                "type": "string",
                "description": f"Name of a chat model, see models; {DEFAULT_CHAT_MODEL} if absent.",
            },
            "system": {"type": "string", "description": "Instructions that stand before the prompt."},
            "temperature": {"type": "number", "description": "0 (always the likeliest word) to 2; 1 if absent."},
            "max_tokens": {"type": "integer", "description": "Length of the answer; as long as it needs if absent."},
            "thinking": {
                "type": "boolean",
                "description": "false: answer at once; true: think first. What the model does by itself if absent.",
            },
            "json_schema": {
                "type": "string",
                "description": "A JSON schema, as text. The answer is then a JSON document that matches it.",
            },
        },
        "required": ["prompt"],
    },
    annotations=mcp.ToolAnnotations(
        title="Chat with a local model", read_only_hint=True, destructive_hint=False, open_world_hint=False
    ),
)
MODELS = mcp.Tool(
    name="models",
    title="List local models",
    description="Which models this computer has or could fetch, and which of them are loaded.",
    input_schema={"type": "object", "properties": {}, "required": []},
    annotations=mcp.ToolAnnotations(
        title="List local models",
        read_only_hint=True,
        destructive_hint=False,
        idempotent_hint=True,
        open_world_hint=False,
    ),
)


def listed() -> list[mcp.Tool]:
    """All tools, in a stable order."""
    return [CHAT, MODELS]


async def call(
    inference: Inference, name: str, given: Mapping[str, Any] | None, progress: Progress
) -> mcp.CallToolResult:
    """Run a tool. Raises `ServiceError` with a sentence for the model."""
    if name == CHAT.name:
        return await _chat(inference, arguments.parse(CHAT.input_schema, given), progress)
    if name == MODELS.name:
        arguments.parse(MODELS.input_schema, given)
        return await _models(inference)
    raise UnknownTool(f"There is no tool {name}. Known: {', '.join(tool.name for tool in listed())}.")


class UnknownTool(ServiceError):
    status, type, code = 404, "invalid_request_error", "unknown_tool"


def failed(message: str) -> mcp.CallToolResult:
    """A failure as the model reads it: all in the text, for some clients drop everything else of an error."""
    return mcp.CallToolResult(content=[mcp.TextContent(type="text", text=message)], is_error=True)


async def _chat(inference: Inference, given: Mapping[str, Value], progress: Progress) -> mcp.CallToolResult:
    texts: list[str] = []
    meter = _Meter(progress)
    done: Done | None = None
    async with aclosing(inference.chat(_request(given))) as events:
        async for event in events:
            if isinstance(event, Delta):
                texts.append(event.text)
                await meter.add(len(event.text))
            elif isinstance(event, Done):
                await meter.report()
                done = event
    assert done is not None
    blocks: list[mcp.ContentBlock] = [mcp.TextContent(type="text", text="".join(texts))]
    meta: dict[str, Any] = {"timings": msgspec.to_builtins(done.timings)}
    if done.finish_reason == "length":
        blocks.append(mcp.TextContent(type="text", text=CUT))
        meta["incomplete"] = {"reason": "length"}
    return mcp.CallToolResult(content=blocks, _meta=meta)


class _Meter:
    """Counts characters and reports them now and then: a notification for every token makes a call 40 times as long."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._length = 0
        self._reported = 0
        self._due = 0.0

    async def add(self, characters: int) -> None:
        self._length += characters
        if anyio.current_time() >= self._due:
            await self.report()

    async def report(self) -> None:
        """Values that don't grow are not sent."""
        if self._length > self._reported:
            self._reported = self._length
            self._due = anyio.current_time() + PROGRESS_SECONDS
            await self._progress(self._length)


def _request(given: Mapping[str, Value]) -> ChatRequest:
    system = [Message("system", str(given["system"]))] if "system" in given else []
    temperature = float(given.get("temperature", 1.0))
    if not 0 <= temperature <= 2:
        raise InvalidRequest("The argument temperature must be from 0 to 2.", param="temperature")
    max_tokens = int(given["max_tokens"]) if "max_tokens" in given else None
    if max_tokens is not None and max_tokens < 1:
        raise InvalidRequest("The argument max_tokens must be at least 1.", param="max_tokens")
    return ChatRequest(
        model=str(given.get("model", DEFAULT_CHAT_MODEL)),
        messages=(*system, Message("user", str(given["prompt"]))),
        sampling=Sampling(temperature=temperature, max_tokens=max_tokens),
        trace=f"mcp-{secrets.token_hex(10)}",
        constraint=_constraint(str(given["json_schema"])) if "json_schema" in given else None,
        thinking=Thinking(bool(given["thinking"]) if "thinking" in given else None),
    )


def _constraint(schema: str) -> Constraint:
    try:
        return Constraint("json_schema", msgspec.json.decode(schema, type=dict[str, Any]), "json_schema")
    except (msgspec.DecodeError, RecursionError) as error:
        message = f"The argument json_schema must be a JSON schema, as text: {error}"
        raise InvalidRequest(message, param="json_schema") from error


async def _models(inference: Inference) -> mcp.CallToolResult:
    statuses = await asyncio.to_thread(inference.models)
    value = {"models": [msgspec.to_builtins(status) for status in statuses]}
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return mcp.CallToolResult(content=[mcp.TextContent(type="text", text=text)], structured_content=value)
