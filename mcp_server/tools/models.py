"""The tool `models`: which models there are."""

import asyncio
import json
from collections.abc import Mapping

import mcp_types as mcp
import msgspec

from mcp_server.tools.arguments import Value
from mcp_server.tools.tool import Context, McpTool


class ModelsTool(McpTool):
    schema = mcp.Tool(
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

    async def call(self, given: Mapping[str, Value], context: Context) -> mcp.CallToolResult:
        statuses = await asyncio.to_thread(context.inference.models)
        value = {"models": [msgspec.to_builtins(status) for status in statuses]}
        text = json.dumps(value, indent=2, ensure_ascii=False)
        return mcp.CallToolResult(content=[mcp.TextContent(type="text", text=text)], structured_content=value)
