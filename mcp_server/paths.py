"""Where MCP is served over HTTP, and by which methods. Apart from the routes, because these are known before `mcp` is
imported (a second)."""

from collections.abc import Mapping, Sequence

# Clients that look for streamable HTTP first POST to whatever address they have: a stream at `/sse` would keep them for
# ever, a 405 makes them fall back.
METHODS: Mapping[str, Sequence[str]] = {
    "/mcp": ("GET", "POST", "DELETE"),
    "/sse": ("GET",),
    "/messages/{rest:path}": ("POST",),
}
