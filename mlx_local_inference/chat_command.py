"""`mlx-local chat`: a conversation with a running server, streamed to the terminal."""

import json
import os
import sys
from collections.abc import Iterator, Sequence

import httpx2

Turn = dict[str, str]


class ChatFailed(Exception):
    """What the server, or the way to it, said; for people."""


def run(url: str, model: str, words: Sequence[str], max_tokens: int | None, keys: Sequence[str]) -> int:
    """One question if there are words, else a conversation until the end of input. The exit status."""
    headers = {"Authorization": f"Bearer {keys[0]}"} if keys else {}
    history: list[Turn] = []
    with httpx2.Client(base_url=url, headers=headers, timeout=httpx2.Timeout(None, connect=5.0)) as client:
        for question in _questions(words):
            history.append({"role": "user", "content": question})
            try:
                answer = _answer(client, {"model": model, "messages": history, "max_tokens": max_tokens})
            except ChatFailed as error:
                sys.stderr.write(f"mlx-local: {error}\n")
                return 1
            history.append({"role": "assistant", "content": answer})
    return 0


def _questions(words: Sequence[str]) -> Iterator[str]:
    if words:
        yield " ".join(words)
        return
    while True:
        if sys.stdin.isatty():
            sys.stderr.write("> ")
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _answer(client: httpx2.Client, body: dict[str, object]) -> str:
    """Print an answer as it comes, say so if it was cut, and give it back whole. Thoughts go to stderr, in grey."""
    parts: list[str] = []
    cut = False
    thought = _Thought()
    try:
        with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as response:
            if response.status_code != 200:
                response.read()
                raise ChatFailed(_message(response.json()))
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
                    sys.stdout.write(parts[-1])
                    sys.stdout.flush()
                    cut = cut or choice["finish_reason"] == "length"
            thought.end()
    except httpx2.HTTPError as error:
        hint = "Start it with: mlx-local serve"
        raise ChatFailed(f"no answer from {client.base_url} ({type(error).__name__}). {hint}") from error
    sys.stdout.write("\n")
    if cut:
        sys.stderr.write("[the answer was cut at its token limit]\n")
    return "".join(parts)


class _Thought:
    """What a model thinks before it answers, for people who watch: shown on a terminal alone."""

    def __init__(self) -> None:
        self._shown = False
        plain = "NO_COLOR" in os.environ
        self._grey, self._normal = ("", "") if plain else ("\x1b[2m", "\x1b[0m")

    def show(self, text: str) -> None:
        if text and sys.stderr.isatty():
            sys.stderr.write(f"{self._grey}{text}{self._normal}")
            sys.stderr.flush()
            self._shown = True

    def end(self) -> None:
        """The answer begins on a line of its own."""
        if self._shown:
            sys.stderr.write("\n\n")
            self._shown = False


def _message(body: object) -> str:
    if isinstance(body, dict) and isinstance(error := body.get("error"), dict):
        return str(error.get("message"))
    return f"the server answered {body!r}"
