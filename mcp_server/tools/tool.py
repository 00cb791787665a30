"""What every tool is: its schema, and a call with a context."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import mcp_types as mcp
import msgspec

from engines.types.inference import Inference
from mcp_server.options import McpOptions
from mcp_server.tools import arguments
from mcp_server.tools.arguments import Value
from mcp_server.tools.progress import Progress


class Context(msgspec.Struct, frozen=True):
    """What one call has at hand. `trace` names it in the log."""

    inference: Inference
    options: McpOptions
    progress: Progress
    trace: str


class McpTool(ABC):
    """A tool. `schema` is what clients are shown; a call's arguments are read by it."""

    schema: mcp.Tool

    def parse(self, given: Mapping[str, Any] | None) -> dict[str, Value]:
        """The arguments as native values. Raises `InvalidRequest`, naming the argument."""
        return arguments.parse(self.schema.input_schema, given)

    @abstractmethod
    async def call(self, given: Mapping[str, Value], context: Context) -> mcp.CallToolResult:
        """Raises `ServiceError` with a sentence for the model."""
