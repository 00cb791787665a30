"""`mlx-local chat`: a conversation with a running server, streamed to the terminal."""

import json
import os
import sys
from collections.abc import Sequence
from typing import TextIO

import httpx2

from mlx_local_inference.output import complain, tell
from mlx_local_inference.questions import NothingAsked, questions

Turn = dict[str, str]


class ChatFailed(Exception):
    """What the server, or the way to it, said; for people."""


def run(url: str, model: str, words: Sequence[str], max_tokens: int | None, keys: Sequence[str], out: TextIO) -> int:
    """One question if there are words or something is piped in, else a conversation until the end of input. The exit
    status."""
    headers = {b"Authorization": b"Bearer " + keys[0].encode()} if keys else {}
    history: list[Turn] = []
    try:
        with httpx2.Client(base_url=url, headers=headers, timeout=httpx2.Timeout(None, connect=5.0)) as client:
            for question in questions(words):
                history.append({"role": "user", "content": question})
                answer = _answer(client, {"model": model, "messages": history, "max_tokens": max_tokens}, out)
                history.append({"role": "assistant", "content": answer})
    except NothingAsked as error:
        complain(str(error))
        return 2
    except (ChatFailed, httpx2.InvalidURL) as error:
        complain(str(error))
        return 1
    return 0


def _answer(client: httpx2.Client, body: dict[str, object], out: TextIO) -> str:
    """Print an answer as it comes, say so if it was cut, and give it back whole. Thoughts go to stderr, in grey."""
    parts: list[str] = []
    cut = False
    thought = _Thought()
    try:
        with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as response:
            if response.status_code != 200:
                raise ChatFailed(_message(_json(response.read())))
            for line in response.iter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                chunk = json.loads(line.removeprefix("data: "))
                if "error" in chunk:
                    raise ChatFailed(_message(chunk))
                for choice in chunk["choices"]:
                    thought.show(choice["delta"].get("reasoning_content") or "")
                    parts.append(choice["delta"].get("content") or "")
                    if parts[-1]:
                        thought.end()
                    out.write(parts[-1])
                    out.flush()
                    cut = cut or choice["finish_reason"] == "length"
            thought.end()
    except httpx2.HTTPError as error:
        hint = "Start it with: mlx-local serve"
        raise ChatFailed(f"no answer from {client.base_url} ({type(error).__name__}). {hint}") from error
    out.write("\n")
    if cut:
        tell("[the answer was cut at its token limit]\n")
    return "".join(parts)


class _Thought:
    """What a model thinks before it answers, for people who watch: shown on a terminal alone."""

    def __init__(self) -> None:
        self._shown = False
        plain = "NO_COLOR" in os.environ
        self._grey, self._normal = ("", "") if plain else ("\x1b[2m", "\x1b[0m")

    def show(self, text: str) -> None:
        if text and sys.stderr.isatty():
            tell(f"{self._grey}{text}{self._normal}")
            self._shown = True

    def end(self) -> None:
        """The answer begins on a line of its own."""
        if self._shown:
            tell("\n\n")
            self._shown = False


def _json(body: bytes) -> object:
    """What a server says, which may be another one than ours."""
    try:
        return json.loads(body)
    except ValueError:
        return body[:200].decode("utf-8", "replace")


def _message(body: object) -> str:
    if isinstance(body, dict) and isinstance(error := body.get("error"), dict):
        return str(error.get("message"))
    return f"the server answered {body!r}"
