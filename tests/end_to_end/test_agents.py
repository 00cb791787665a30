"""Agents whose service is killed or restarted under them."""

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import Any

import anyio
import httpx2
import psutil
import pytest
from mcp import Client, MCPError, StdioServerParameters

from tests.end_to_end.conftest import Service, Start
from tests.promises import promise

SHORT = {"prompt": "hello", "model": "endless", "max_tokens": 3, "temperature": 0}
LONG = {**SHORT, "max_tokens": 4000}
INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "agent", "version": "1"}}


def relay(*arguments: str, environ: dict[str, str]) -> StdioServerParameters:
    command = ["-P", "-m", "mlx_local_inference", "mcp", *arguments]
    return StdioServerParameters(command=sys.executable, args=command, env=environ)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def servers(port: str) -> list[psutil.Process]:
    """The services on this port; relays started them."""
    end = ["mlx_local_inference", "serve", "--port", port]
    return [one for one in psutil.process_iter(["cmdline"]) if (one.info["cmdline"] or [])[-4:] == end]


async def in_mid_call(url: str) -> None:
    async with httpx2.AsyncClient(base_url=url, timeout=30) as http:
        while not (await http.get("/v1/models/endless")).json()["running"]:  # noqa: ASYNC110 (another program's)
            await asyncio.sleep(0.01)


@promise("mcp:relay:outlives")
@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_a_service_killed_in_mid_call_costs_an_agent_that_call_and_is_started_by_the_next(
    mode: str, models: str, tmp_path: Path
) -> None:
    port = free_port()
    own = {"HOME": str(tmp_path), "MLX_LOCAL_AUDIO_PORT": "0", "MLX_LOCAL_MODEL_DIRS": models}
    environ = {**os.environ, **own, "MLX_LOCAL_SPARE_RUNNER": "false"}

    def agent() -> Client:
        return Client(relay("--port", port, environ=environ), mode=mode)

    async def main() -> None:
        async with asyncio.timeout(100), agent() as client, agent() as other:
            assert not (await client.call_tool("chat", SHORT)).is_error
            call = asyncio.create_task(client.call_tool("chat", LONG))
            await in_mid_call(f"http://127.0.0.1:{port}")
            (first,) = servers(port)
            first.kill()
            with pytest.raises(MCPError, match=r"Call again, it is then started.*server\.log"):
                await call
            # Both start a service; one of them has the port, and serves both.
            answers = await asyncio.gather(client.call_tool("chat", SHORT), other.call_tool("chat", SHORT))
            assert not any(answer.is_error for answer in answers)
            assert [tool.name for tool in (await client.list_tools()).tools][0] == "chat"
            while len(here := servers(port)) != 1:  # noqa: ASYNC110 (the other ends)
                await asyncio.sleep(0.05)
            assert here[0].pid != first.pid

    try:
        asyncio.run(main())
    finally:
        for server in servers(port):
            server.terminate()
            server.wait(20)


@promise("mcp:relay:outlives")
def test_a_restart_costs_agents_nothing_between_their_calls(start: Start) -> None:
    flags = ("--port", free_port(), "--spare-runner", "false")

    async def opened(http: httpx2.AsyncClient) -> dict[str, str]:
        asked = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": INITIALIZE}
        answer = await http.post("/mcp", json=asked)
        assert answer.status_code == 200
        return {"Mcp-Session-Id": answer.headers["mcp-session-id"]}

    async def listed(http: httpx2.AsyncClient, session: dict[str, str]) -> int:
        asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        return (await http.post("/mcp", json=asked, headers=session)).status_code

    async def answers(http: httpx2.AsyncClient) -> bool:
        try:
            await http.get("/health", headers={"Connection": "close"})
        except httpx2.ConnectError:
            return False
        except httpx2.TransportError:
            pass  # a connection of before, which is closed now
        return True

    async def restart(service: Service, http: httpx2.AsyncClient) -> Any:
        """The old service still waits for an open stream when the new one is there."""
        async with http.stream("GET", "/sse", timeout=30):
            service.process.terminate()
            while await answers(http):  # noqa: ASYNC110 (another program's)
                await asyncio.sleep(0.01)
            later = start(*flags)
            made = await asyncio.to_thread(later.__enter__)
            assert await asyncio.to_thread(service.process.wait, 20) == 0
        return made, later

    async def main(service: Service) -> None:
        headers = {"Accept": "application/json, text/event-stream"}
        agent = relay("--socket", service.socket, environ=service.environ)
        async with asyncio.timeout(100), httpx2.AsyncClient(base_url=service.url, headers=headers) as http:
            async with Client(agent) as client:
                session = await opened(http)
                assert (await client.call_tool("models", {})).structured_content
                assert await listed(http, session) == 200
                made, later = await restart(service, http)
                try:
                    assert made.socket == service.socket and await anyio.Path(made.socket).exists()
                    assert (await client.call_tool("models", {})).structured_content
                    assert await listed(http, session) == 404
                    assert await listed(http, await opened(http)) == 200
                finally:
                    await asyncio.to_thread(later.__exit__, None, None, None)

    with start(*flags) as service:
        asyncio.run(main(service))
