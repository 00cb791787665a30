"""The MCP server as a value. One object serves all transports and both eras of the protocol."""

import logging
import secrets
from importlib.metadata import version
from typing import Any

import mcp_types as mcp
import msgspec
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server

from engines.types.errors import ServiceError, shortage
from engines.types.inference import Inference
from mcp_server.options import McpOptions
from mcp_server.tools import registry
from mcp_server.tools.tool import Context

INSTRUCTIONS = (
    "Models that run on this computer, offline: `chat` asks a language model, `transcribe` writes a recording down, "
    "`speak` makes a sound file of a text, `models` says which models there are."
)

log = logging.getLogger("mcp")


def _tenant(context: ServerRequestContext[Any]) -> str:
    """As the app in which MCP's routes stand told it of this message's key; "" on stdio, which has none."""
    scope = getattr(context.request, "scope", {})
    return str(scope.get("state", {}).get("tenant", ""))


def build(inference: Inference, options: McpOptions) -> Server[Any]:
    """Tools only: clients add useless tools of their own for prompts and resources that a server claims to have."""

    async def list_tools(
        context: ServerRequestContext[Any], params: mcp.PaginatedRequestParams | None
    ) -> mcp.ListToolsResult:
        return mcp.ListToolsResult(tools=registry.listed())

    async def call_tool(context: ServerRequestContext[Any], params: mcp.CallToolRequestParams) -> mcp.CallToolResult:
        try:
            asked = msgspec.structs.replace(options, tenant=_tenant(context))
            trace = f"mcp-{secrets.token_hex(10)}"
            called = Context(inference, asked, context.session.report_progress, trace)
            return await registry.call(params.name, params.arguments, called)
        except ServiceError as error:
            return registry.failed(error.message)
        except Exception as error:
            if (known := shortage(error)) is not None:
                return registry.failed(known.message)
            log.exception("the tool %s failed", params.name)
            return registry.failed(f"The tool {params.name} failed; the server's log says why.")

    return Server(
        "mlx-local-inference",
        version=version("mlx-local-inference"),
        title="Local models on MLX",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
