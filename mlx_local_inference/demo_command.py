"""`mlx-local demo`: starts a server on the small bundled models, shows what each was asked and answered."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import TextIO

import httpx2

QUESTIONS = (("qwen3-14b", "What can you do?"), ("gemma-3-12b", "你好，你會做什麼？"))
TOKENS = 24


class DemoFailed(Exception):
    """A capability did not answer as it should."""


def run(out: TextIO) -> int:
    """The exit status: 0 when every capability answered."""
    out.write("The bundled models are toys with random weights: their words mean nothing, the machinery is real.\n")
    try:
        with serving() as url:
            _over_http(url, out)
            asyncio.run(_over_mcp(url, out))
    except DemoFailed as error:
        out.write(f"  failed:   {error}\n")
        return 1
    return 0


def _over_http(url: str, out: TextIO) -> None:
    with httpx2.Client(base_url=url, timeout=120.0) as client:
        for model, question in QUESTIONS:
            out.write(f"\nChat over HTTP · {model}\n  asked:    {question}\n")
            body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": TOKENS}
            answer = client.post("/v1/chat/completions", json=body)
            if answer.status_code != 200:
                raise DemoFailed(answer.text)
            choice = answer.json()["choices"][0]
            out.write(f"  answered: {choice['message']['content']!r} (finish_reason: {choice['finish_reason']})\n")


async def _over_mcp(url: str, out: TextIO) -> None:
    from mcp import Client  # a second of imports, for this command alone

    model, question = QUESTIONS[0]
    out.write(f"\nChat over MCP · the tool chat · {model}\n  asked:    {question}\n")
    async with Client(f"{url}/mcp") as client:
        answer = await client.call_tool("chat", {"prompt": question, "model": model, "max_tokens": TOKENS})
    texts = [block.text for block in answer.content if block.type == "text"]
    if answer.is_error or not texts:
        raise DemoFailed(" ".join(texts))
    out.write(f"  answered: {texts[0]!r} {' '.join(texts[1:])}\n")


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """A demo server on free ports; its main URL."""
    command = [sys.executable, "-P", "-m", "mlx_local_inference", "serve", "--demo", "--json"]
    command += ["--port", "0", "--audio-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            line = server.stdout.readline()
            if not line:
                raise DemoFailed("the server didn't start; it said why above")
            yield str(json.loads(line)["main_url"])
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)
