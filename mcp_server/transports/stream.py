"""MCP over a unix socket, one JSON message a line: what the relay connects to."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import mcp_types as mcp
from mcp.server.lowlevel import Server
from mcp.shared._context_streams import ContextReceiveStream, ContextSendStream, create_context_streams
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

from engines.host.unix_sockets import widen
from http_server.transport.accepting import Acceptor
from mcp_server.relay.session import MAX_LINE
from mcp_server.transports import messages

PATIENCE_SECONDS = 60.0


@asynccontextmanager
async def serve_unix(server: Server[Any], listener: socket.socket) -> AsyncIterator[None]:
    """Serve sessions on a listening socket for as long as the context lasts; it is closed then."""
    sessions: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        widen(writer.get_extra_info("socket"))
        task = asyncio.create_task(_session(server, reader, writer))
        sessions.add(task)
        task.add_done_callback(sessions.discard)

    def protocol() -> asyncio.Protocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=MAX_LINE), accept)

    listening = Acceptor(listener, protocol)
    listening.start()
    try:
        yield
    finally:
        listening.close()
        for task in sessions:
            task.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)


async def _session(server: Server[Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    incoming, read = create_context_streams[SessionMessage | Exception](0)
    write, outgoing = create_context_streams[SessionMessage](0)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_read, reader, writer, incoming)
            group.start_soon(_write, writer, outgoing)
            await server.run(read, write, server.create_initialization_options())
            group.cancel_scope.cancel()
    finally:
        for end in (incoming, read, write, outgoing):
            end.close()
        writer.close()


async def _read(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, incoming: ContextSendStream[SessionMessage | Exception]
) -> None:
    """Lines → messages. What is no message is answered, so that its sender doesn't wait for ever."""
    with contextlib.suppress(ConnectionError):
        while True:
            try:
                line = await reader.readline()
            except ValueError:
                told = f"A message may have {MAX_LINE} bytes at most."
                writer.write(messages.Refused(None, mcp.INVALID_REQUEST, told).encoded() + b"\n")
                break
            if not line:
                break
            read = messages.read(line)
            message = _message(read) if isinstance(read, dict) else read
            if isinstance(message, messages.Refused):
                writer.write(message.encoded() + b"\n")
                # Who sends only such lines and reads no answers is held back, not stored.
                await writer.drain()
            elif message is not None:
                await incoming.send(SessionMessage(message))
    incoming.close()


async def _write(writer: asyncio.StreamWriter, outgoing: ContextReceiveStream[SessionMessage]) -> None:
    """Messages → lines. A peer that takes nothing for a minute is dropped: what waits for it stays in memory."""
    try:
        while True:
            item = await outgoing.receive()
            writer.write(messages.encoded(item.message) + b"\n")
            async with asyncio.timeout(PATIENCE_SECONDS):
                await writer.drain()
    except (anyio.EndOfStream, anyio.ClosedResourceError):
        pass
    except (ConnectionError, TimeoutError):
        writer.transport.abort()


def _message(body: messages.Body) -> mcp.JSONRPCMessage | messages.Refused:
    try:
        return mcp.jsonrpc_message_adapter.validate_python(body, by_name=False)
    except ValidationError:
        return messages.of_wrong_shape(body)
