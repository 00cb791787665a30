"""How MCP messages travel: streamable HTTP, SSE, unix sockets."""
