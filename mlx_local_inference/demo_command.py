"""`mlx-local demo`: starts a server on the small bundled models, shows what each was asked and answered."""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import TextIO

import httpx2

QUESTIONS = (("qwen3-14b", "What can you do?"), ("gemma-3-12b", "你好，你會做什麼？"))


def run(out: TextIO) -> int:
    """The exit status: 0 when every answer came whole or cut by its limit, and said which."""
    out.write("The bundled models are toys with random weights: their words mean nothing, the machinery is real.\n")
    with serving() as url, httpx2.Client(base_url=url, timeout=120.0) as client:
        for model, question in QUESTIONS:
            out.write(f"\nHTTP chat · {model}\n  asked:    {question}\n")
            body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 24}
            answer = client.post("/v1/chat/completions", json=body)
            if answer.status_code != 200:
                out.write(f"  failed:   {answer.text}\n")
                return 1
            choice = answer.json()["choices"][0]
            out.write(f"  answered: {choice['message']['content']!r} ({choice['finish_reason']})\n")
    return 0


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """A demo server on free ports; its main URL."""
    command = [sys.executable, "-P", "-m", "mlx_local_inference", "serve", "--demo", "--json"]
    command += ["--port", "0", "--audio-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            yield str(json.loads(server.stdout.readline())["main_url"])
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)
