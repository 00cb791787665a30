"""The tools as a page of Markdown: `references/mcp.md` holds it."""

import mcp_types as mcp

from mcp_server.tools.registry import listed


def reference() -> str:
    """Every tool with its arguments."""
    return "\n".join(["# The tools", *(line for tool in listed() for line in _tool(tool))]) + "\n"


def _tool(tool: mcp.Tool) -> list[str]:
    lines = ["", f"## `{tool.name}`", "", str(tool.description)]
    properties = tool.input_schema["properties"]
    if not properties:
        return [*lines, "", "It takes no arguments."]
    required = tool.input_schema["required"]
    lines += ["", "| argument | type | what it is |", "| --- | --- | --- |"]
    for name, one in properties.items():
        kind = f"{one['type']}, required" if name in required else one["type"]
        lines.append(f"| `{name}` | {kind} | {one['description']} |")
    return lines
