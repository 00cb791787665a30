"""The tool `chat` over a scripted model: what its result tells beside the text."""

from pathlib import Path
from typing import Any

import anyio
import mcp_types as mcp

from mcp_server.options import McpOptions
from mcp_server.tools.chat import ChatTool
from mcp_server.tools.tool import Context
from tests.promises import promise
from tests.scripted import Scripted


def asked(**given: Any) -> mcp.CallToolResult:
    async def nothing(progress: float, total: float | None = None) -> None:
        pass

    async def call() -> mcp.CallToolResult:
        context = Context(Scripted(), McpOptions(Path("/")), nothing, "t")
        return await ChatTool().call({"prompt": "one two", **given}, context)

    return anyio.run(call)


@promise("chat:limit:clamped")
def test_a_limit_beyond_the_room_is_told_beside_the_result() -> None:
    meta = asked(max_tokens=32_000).meta
    assert meta is not None
    assert meta["adjusted_fields"] == [{"field": "max_tokens", "how": "4094 instead of 32000"}]
    assert "adjusted_fields" not in (asked(max_tokens=5).meta or {})
