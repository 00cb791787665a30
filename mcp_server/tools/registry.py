"""The tools: which there are, and how a call finds its own.

Schemas are written by hand, flat, with one type a property: what every client accepts. The answer of a tool whose
result is text is that text alone, because clients differ in which half of a structured result their model sees.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import mcp_types as mcp
import msgspec

from engines.types.errors import ServiceError
from engines.types.inference import Inference
from mcp_server.options import Options
from mcp_server.tools import arguments
from mcp_server.tools.chat import CHAT, chat
from mcp_server.tools.progress import Progress
from mcp_server.tools.speak import SPEAK, speak
from mcp_server.tools.transcribe import TRANSCRIBE, as_text, transcribe

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
    return [CHAT, TRANSCRIBE, SPEAK, MODELS]


async def call(
    inference: Inference, options: Options, name: str, given: Mapping[str, Any] | None, progress: Progress
) -> mcp.CallToolResult:
    """Run a tool. Raises `ServiceError` with a sentence for the model."""
    if name == CHAT.name:
        return await chat(inference, arguments.parse(CHAT.input_schema, given), progress)
    if name == TRANSCRIBE.name:
        return await transcribe(inference, options, arguments.parse(TRANSCRIBE.input_schema, as_text(given)), progress)
    if name == SPEAK.name:
        return await speak(inference, options, arguments.parse(SPEAK.input_schema, given), progress)
    if name == MODELS.name:
        arguments.parse(MODELS.input_schema, given)
        return await _models(inference)
    raise UnknownTool(f"There is no tool {name}. Known: {', '.join(tool.name for tool in listed())}.")


class UnknownTool(ServiceError):
    status, type, code = 404, "invalid_request_error", "unknown_tool"


def failed(message: str) -> mcp.CallToolResult:
    """A failure as the model reads it: all in the text, for some clients drop everything else of an error."""
    return mcp.CallToolResult(content=[mcp.TextContent(type="text", text=message)], is_error=True)


async def _models(inference: Inference) -> mcp.CallToolResult:
    statuses = await asyncio.to_thread(inference.models)
    value = {"models": [msgspec.to_builtins(status) for status in statuses]}
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return mcp.CallToolResult(content=[mcp.TextContent(type="text", text=text)], structured_content=value)
