"""A service with one place and one to wait in: who leaves gives it back, and who finds none is told."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.end_to_end.conftest import Service, started, until
from tests.promises import promise


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, models: str) -> Iterator[Service]:
    flags = ["--models-dir", models, "--max-running", "1", "--queue-limit", "1"]
    with started(tmp_path_factory.mktemp("home"), *flags) as made:
        yield made


def body(model: str, text: str, max_tokens: int = 4000, stream: bool = True) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0, "stream": stream}


def asking(service: Service, body: dict[str, Any]) -> "closing[socket.socket]":
    """A client that has asked and reads nothing; it leaves at the end of the context."""
    host, _, port = service.url.removeprefix("http://").partition(":")
    content = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(content)}\r\n\r\n"
    wire = socket.create_connection((host, int(port)))
    wire.sendall(head.encode() + content)
    return closing(wire)


def counts(service: Service, model: str) -> tuple[int, int]:
    status = service.model(model)
    return status["running"], status["waiting"]


@promise("core:leave:frees-the-place")
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_the_queue_is_out_of_it(service: Service, stream: bool) -> None:
    with asking(service, body("endless", "hello")):
        until(lambda: counts(service, "endless") == (1, 0))
        with asking(service, body("endless", "hello", stream=stream)):
            until(lambda: counts(service, "endless") == (1, 1))
        until(lambda: counts(service, "endless") == (1, 0), 2)
    until(lambda: counts(service, "endless") == (0, 0), 2)


@promise("core:leave:frees-the-place")
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_while_its_model_loads_is_forgotten(service: Service, stream: bool) -> None:
    service.all_unloaded()
    with asking(service, body("slow", "hello", stream=stream)):
        until(lambda: service.model("slow")["phase"] == "loading" and counts(service, "slow") == (0, 1))
    until(lambda: counts(service, "slow") == (0, 0), 2)
    until(lambda: service.model("slow")["phase"] == "ready")
    assert counts(service, "slow") == (0, 0)


@promise("core:leave:frees-the-place")
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_while_its_prompt_is_read_leaves_the_place_to_the_next(
    service: Service, stream: bool
) -> None:
    with asking(service, body("slow", "hello " * 800, max_tokens=100, stream=stream)):
        until(lambda: counts(service, "slow") == (1, 0))
    until(lambda: counts(service, "slow") == (0, 0), 2)
    # Reading on would take the runner a minute or more.
    assert service.chat(body("slow", "hi", max_tokens=1, stream=False)).elapsed.total_seconds() < 20


@promise("core:leave:frees-the-place")
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_its_answer_leaves_the_place_to_the_next(service: Service, stream: bool) -> None:
    with asking(service, body("endless", "hello", stream=stream)) as wire:
        if stream:
            heard = b""
            while heard.count(b'"content":"') < 3:
                heard += wire.recv(4096)
        until(lambda: counts(service, "endless") == (1, 0))
    until(lambda: counts(service, "endless") == (0, 0), 2)
    assert service.chat(body("endless", "hello", max_tokens=2, stream=False)).status_code == 200


@promise("core:queue:full")
def test_who_finds_the_queue_full_is_told_when_to_come_back_and_the_others_go_on(service: Service) -> None:
    with asking(service, body("endless", "hello")) as holder:
        until(lambda: counts(service, "endless") == (1, 0))
        with asking(service, body("endless", "hello", max_tokens=3)) as waiting:
            until(lambda: counts(service, "endless") == (1, 1))
            for stream in (True, False):
                refused = service.chat(body("endless", "hello", stream=stream))
                error = refused.json()["error"]
                assert (refused.status_code, error["type"], error["code"]) == (429, "rate_limit_error", "queue_full")
                assert int(refused.headers["retry-after"]) >= 1
            assert counts(service, "endless") == (1, 1)
            holder.close()
            waiting.settimeout(30)
            heard = b""
            while b"[DONE]" not in heard:
                heard += waiting.recv(4096)
    until(lambda: counts(service, "endless") == (0, 0), 2)
