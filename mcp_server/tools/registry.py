"""The tools: which there are, and how a call finds its own.

Schemas are written by hand, flat, with one type a property: what every client accepts. The answer of a tool whose
result is text is that text alone, because clients differ in which half of a structured result their model sees.
"""

from collections.abc import Mapping
from typing import Any

import mcp_types as mcp

from engines.types.errors import ServiceError
from mcp_server.tools.chat import ChatTool
from mcp_server.tools.models import ModelsTool
from mcp_server.tools.speak import SpeakTool
from mcp_server.tools.tool import Context, McpTool
from mcp_server.tools.transcribe import TranscribeTool

TOOLS: tuple[McpTool, ...] = (ChatTool(), TranscribeTool(), SpeakTool(), ModelsTool())  # as clients list them


class UnknownTool(ServiceError):
    status, type, code = 404, "invalid_request_error", "unknown_tool"


def listed() -> list[mcp.Tool]:
    """All tools, in a stable order."""
    return [tool.schema for tool in TOOLS]


async def call(name: str, given: Mapping[str, Any] | None, context: Context) -> mcp.CallToolResult:
    """Run a tool. Raises `ServiceError` with a sentence for the model."""
    for tool in TOOLS:
        if tool.schema.name == name:
            return await tool.call(tool.parse(given), context)
    raise UnknownTool(f"There is no tool {name}. Known: {', '.join(tool.schema.name for tool in TOOLS)}.")


def failed(message: str) -> mcp.CallToolResult:
    """A failure as the model reads it: all in the text, for some clients drop everything else of an error."""
    return mcp.CallToolResult(content=[mcp.TextContent(type="text", text=message)], is_error=True)
