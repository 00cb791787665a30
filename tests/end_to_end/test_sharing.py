"""Several clients of one service at the same time, some of them slow."""

import asyncio
import itertools
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator

import httpx2
import openai
import pytest
from mcp import Client, StdioServerParameters

from tests.end_to_end.conftest import Service, Start, started, until
from tests.promises import promise

HELLO = [{"role": "user", "content": "hello"}]
ASK = {"model": "endless", "messages": HELLO, "max_tokens": 12, "temperature": 0}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, models: str) -> Iterator[Service]:
    flags = ["--models-dir", models, "--keepalive", "0.2", "--spare-runner", "false"]
    with started(tmp_path_factory.mktemp("home"), *flags) as made:
        yield made


class Witness:
    """Who was told something, and what the other model was doing then."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.phase = "unloaded"
        self.heard: set[tuple[str, str]] = set()

    def hears(self, who: str) -> None:
        self.heard.add((who, self.phase))

    async def stream(self, who: str) -> None:
        body = {**ASK, "max_tokens": 900, "stream": True}
        async with (
            httpx2.AsyncClient(base_url=self.service.url, timeout=100) as http,
            http.stream("POST", "/v1/chat/completions", json=body) as answer,
        ):
            async for line in answer.aiter_lines():
                if '"content":"' in line:
                    self.hears(who)
        assert line == "" or line == "data: [DONE]"

    async def agent(self, who: str) -> None:
        arguments = ["-P", "-m", "mlx_local_inference", "mcp", "--socket", self.service.socket]
        relay = StdioServerParameters(command=sys.executable, args=arguments, env=self.service.environ)

        async def told(progress: float, total: float | None, message: str | None) -> None:
            self.hears(who)

        async with Client(relay) as client:
            given = {"prompt": "hello", "model": "endless", "max_tokens": 900, "temperature": 0}
            assert not (await client.call_tool("chat", given, progress_callback=told)).is_error

    async def load(self, begin: set[str]) -> None:
        """Load the other model as soon as all of these have heard something."""
        while {who for who, _ in self.heard} != begin:  # noqa: ASYNC110 (what is waited for is other programs')
            await asyncio.sleep(0.01)
        async with httpx2.AsyncClient(base_url=self.service.url, timeout=100) as http:
            loading = asyncio.create_task(http.post("/v1/load", json={"model": "slow"}))
            while not loading.done():
                self.phase = (await http.get("/v1/models/slow")).json()["phase"]
            assert loading.result().status_code == 200


@promise("core:many:while-another-loads")
def test_two_streams_and_an_agent_go_on_while_another_model_loads(service: Service) -> None:
    service.all_unloaded()
    assert service.chat(ASK).status_code == 200
    witness = Witness(service)
    clients = {"first", "second", "agent"}

    async def main() -> None:
        async with asyncio.timeout(100), asyncio.TaskGroup() as group:
            group.create_task(witness.stream("first"))
            group.create_task(witness.stream("second"))
            group.create_task(witness.agent("agent"))
            group.create_task(witness.load(clients))

    asyncio.run(main())
    assert {(who, "loading") for who in clients} <= witness.heard


@promise("chat:stream:comments")
def test_a_silent_stream_gets_comments_while_its_model_loads_and_reads_the_prompt(service: Service) -> None:
    service.all_unloaded()
    body = {**ASK, "model": "slow", "messages": [{"role": "user", "content": "hello " * 900}]}
    with service.stream(body) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        assert '"role":"assistant"' in next(lines)
        until(lambda: service.model("slow")["phase"] == "loading")
        (runner,) = service.runners()
        runner.suspend()
        assert comments(lines, 3)
        assert service.model("slow")["phase"] == "loading"
        runner.resume()
        until(lambda: service.model("slow")["running"])
        assert comments(lines, 3)
        assert service.model("slow")["running"] == 1


def comments(lines: Iterator[str], number: int) -> bool:
    """Whether the next lines that say something are so many comments."""
    said = (line for line in lines if line)
    return all(line == ": keep-alive" for line in itertools.islice(said, number))


@promise("chat:stream:comments")
@pytest.mark.slow
def test_the_official_client_outlives_a_load_of_forty_seconds(start: Start, models: str) -> None:
    with start("--models-dir", models, "--spare-runner", "false") as service:
        client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="any")
        began = time.monotonic()
        asked = {**ASK, "model": "slow", "max_tokens": 2}
        chunks = client.chat.completions.create(**asked, stream=True)  # type: ignore[call-overload]
        next(chunks)
        assert time.monotonic() - began < 5
        until(lambda: service.model("slow")["phase"] == "loading")
        (runner,) = service.runners()
        runner.suspend()
        threading.Timer(40.0, runner.resume).start()
        assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "length"
        assert time.monotonic() - began > 40


@promise("core:slow-client")
def test_a_client_that_reads_nothing_holds_up_nobody_and_is_served_when_it_reads(service: Service) -> None:
    host, _, port = service.url.removeprefix("http://").partition(":")
    content = json.dumps({**ASK, "max_tokens": 3000, "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(content)}\r\n\r\n"
    with socket.socket() as sleepy:
        sleepy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sleepy.settimeout(30)
        sleepy.connect((host, int(port)))
        sleepy.sendall(head.encode() + content)
        until(lambda: service.model("endless")["running"] == 1)
        for _ in range(2):
            with service.stream({**ASK, "max_tokens": 200}) as answer:
                assert list(answer.iter_lines())[-2] == "data: [DONE]"
        assert service.model("endless")["running"] == 1
        read = 0
        while read < 500:
            read += sleepy.recv(1 << 16).count(b'"content":')
    until(lambda: service.model("endless")["running"] == 0)
