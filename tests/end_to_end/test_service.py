import asyncio
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import psutil
import pytest
from mcp import Client, StdioServerParameters

from tests.promises import promise

HELLO = [{"role": "user", "content": "hello"}]
ASK = {"model": "qwen3-14b", "messages": HELLO, "max_tokens": 12, "temperature": 0}
FOR_EVER = [{"role": "user", "content": "Tick like a clock."}]
LONG = {**ASK, "messages": FOR_EVER, "max_tokens": 3000, "stream": True}


@pytest.fixture(scope="module")
def client(service: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="any", max_retries=0) as made:
        yield made


@promise("chat:stream:same")
def test_the_official_client_gets_the_same_answer_streamed_and_whole(client: openai.OpenAI) -> None:
    asked = {"model": "gemma-3-12b", "messages": HELLO, "max_tokens": 12, "temperature": 0}
    whole = client.chat.completions.create(**asked)  # type: ignore[call-overload]
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})  # type: ignore[call-overload]
    )
    assert whole.choices[0].message.content
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert whole.choices[0].finish_reason in ("stop", "length")


def test_an_unknown_model_is_a_404_with_the_known_names(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="qwen3-14b"):
        client.chat.completions.create(model="nobody", messages=HELLO)  # type: ignore[arg-type]


@promise("chat:stream:status")
def test_an_error_known_before_the_stream_has_its_true_status(client: openai.OpenAI) -> None:
    client.chat.completions.create(model="gemma-3-12b", messages=HELLO, max_tokens=1)  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="gemma-3-12b", messages=[{"role": "user", "content": "word " * 9000}], stream=True
        )
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("host", ["evil.com", "localhost.evil.com", "127.0.0.1.nip.io", "localhost:port", ""])
def test_a_host_that_is_not_ours_is_refused(service: Any, host: str) -> None:
    for url in (service.url, service.audio_url):
        assert httpx2.get(f"{url}/v1/models", headers={"Host": host}).status_code in (400, 403)


@pytest.mark.parametrize("host", ["localhost:9999", "127.0.0.1:9999", "localhost", "[::1]:9000"])
def test_a_loopback_name_is_ours_by_any_port_so_that_forwarded_ports_work(service: Any, host: str) -> None:
    for path in ("/v1/models", "/health", "/metrics"):
        assert httpx2.get(f"{service.url}{path}", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
def test_the_stream_of_events_is_for_get_alone(service: Any, method: str) -> None:
    answer = httpx2.request(method, f"{service.url}/sse", content=b'{"jsonrpc": "2.0"}', timeout=10)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize("origin", ["null", "http://localhost.evil.com", "https://evil.com"])
def test_a_page_from_elsewhere_is_refused(service: Any, origin: str) -> None:
    answer = httpx2.get(f"{service.url}/health", headers={"Origin": origin})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "host_refused")


def test_every_answer_has_the_request_id_and_routes_that_are_not_there_say_so(service: Any) -> None:
    answer = httpx2.get(f"{service.url}/v1/nothing", headers={"X-Request-Id": "mine-1"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (404, "mine-1")
    assert answer.json()["error"]["code"] == "unknown_route"
    assert httpx2.get(f"{service.url}/v1/chat/completions").status_code == 405


def test_health_models_and_metrics_answer(service: Any) -> None:
    assert httpx2.get(f"{service.url}/health").json()["status"] == "ok"
    names = [one["id"] for one in httpx2.get(f"{service.url}/v1/models").json()["data"]]
    assert {"qwen3-14b", "gemma-3-12b"} <= set(names)
    assert httpx2.get(f"{service.url}/v1/models/QWEN3-14B").status_code == 200
    assert "mlx_local_requests_total" in httpx2.get(f"{service.url}/metrics").text


def test_two_http_clients_and_an_agent_share_a_model_while_another_loads(service: Any) -> None:
    relay = StdioServerParameters(
        command=sys.executable,
        args=["-P", "-m", "mlx_local_inference", "mcp", "--socket", service.socket, "--no-start"],
        env=service.environ,
    )

    async def http(body: dict[str, Any]) -> str:
        async with httpx2.AsyncClient(base_url=service.url, timeout=60) as http:
            return str((await http.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]["content"])

    async def agent() -> str:
        async with Client(relay) as client:
            given = {"prompt": "hello", "model": "qwen3-14b", "max_tokens": 12, "temperature": 0}
            return str((await client.call_tool("chat", given)).content[0].text)  # type: ignore[union-attr]

    async def main() -> tuple[str, ...]:
        return await asyncio.gather(http(ASK), http(ASK), agent(), http({**ASK, "model": "gemma-3-12b"}))

    first, second, third, other = asyncio.run(main())
    assert first == second == third and other


@pytest.mark.parametrize("path", ["mcp", "sse"])
def test_an_agent_finds_the_tools_over_http(service: Any, path: str) -> None:
    from mcp.client.sse import sse_client

    async def main() -> list[str]:
        target: Any = f"{service.url}/mcp" if path == "mcp" else sse_client(f"{service.url}/sse")
        async with Client(target) as client:
            return [tool.name for tool in (await client.list_tools()).tools]

    assert asyncio.run(main()) == ["chat", "transcribe", "speak", "models"]


def test_the_terminal_shows_the_answer_and_that_it_was_cut(service: Any) -> None:
    question = ("Tick like", "a clock.")  # has an answer without an end
    ended = service.local("chat", "--url", service.url, "--model", "gemma-3-12b", "--max-tokens", "5", *question)
    assert ended.returncode == 0 and ended.stdout.strip()
    assert "cut at its token limit" in ended.stderr


def test_the_terminal_says_what_is_wrong(service: Any) -> None:
    ended = service.local("chat", "--url", service.url, "--model", "nobody", "hello")
    assert (ended.returncode, ended.stdout) == (1, "") and "qwen3-14b" in ended.stderr
    away = service.local("chat", "--url", "http://127.0.0.1:9", "hello")
    assert away.returncode == 1 and "mlx-local serve" in away.stderr and "Traceback" not in away.stderr


def test_the_audio_port_has_every_route(service: Any) -> None:
    assert httpx2.get(f"{service.audio_url}/health").status_code == 200
    assert httpx2.get(f"{service.audio_url}/v1/models").status_code == 200
    assert httpx2.post(f"{service.audio_url}/v1/chat/completions", json=ASK, timeout=60).status_code == 200


def test_a_taken_port_ends_the_second_server_with_the_owners_pid(service: Any) -> None:
    port = service.url.rpartition(":")[2]
    ended = service.local("serve", "--demo", "--port", port, "--audio-port", "0")
    assert ended.returncode == 1 and str(service.process.pid) in ended.stderr and "Traceback" not in ended.stderr


@promise("core:many:hundred")
def test_a_hundred_streams_at_once_all_end(service: Any) -> None:
    async def one(http: httpx2.AsyncClient, number: int) -> str:
        body = {**ASK, "max_tokens": 5, "stream": True, "messages": [{"role": "user", "content": f"hello {number}"}]}
        return (await http.post("/v1/chat/completions", json=body)).text

    async def main() -> list[str]:
        limits = httpx2.Limits(max_connections=100)
        async with httpx2.AsyncClient(base_url=service.url, timeout=100, limits=limits) as http:
            return await asyncio.gather(*(one(http, number) for number in range(100)))

    for text in asyncio.run(main()):
        assert text.endswith("data: [DONE]\n\n") and '"finish_reason":"' in text and '"error"' not in text


@promise("core:network:none")
def test_nothing_was_ever_connected_to(service: Any) -> None:
    httpx2.post(f"{service.url}/v1/chat/completions", json=ASK, timeout=60)
    missing = httpx2.post(f"{service.url}/v1/chat/completions", json={**ASK, "model": "org/absent"}, timeout=5)
    assert missing.status_code == 404 and "models pull" in missing.json()["error"]["message"]
    assert missing.elapsed.total_seconds() < 0.5
    assert service.connections() == ""
    service.local("chat", "--url", service.url, "--max-tokens", "1", "hello")
    assert service.url.rpartition(":")[2] in service.connections("connections-of-commands")  # it would have been seen


def test_a_model_is_loaded_and_unloaded_by_request(service: Any) -> None:
    for verb, phase in [("load", "ready"), ("unload", "unloaded")]:
        assert httpx2.post(f"{service.url}/v1/{verb}", json={"model": "gemma-3-12b"}, timeout=60).status_code == 200
        assert httpx2.get(f"{service.url}/v1/models/gemma-3-12b").json()["phase"] == phase


@promise("core:server:killed")
def test_a_killed_server_leaves_no_runner(start: Any) -> None:
    with start("--spare-runner", "false") as service:
        assert httpx2.post(f"{service.url}/v1/chat/completions", json=ASK, timeout=60).status_code == 200
        runners = psutil.Process(service.process.pid).children(recursive=True)
        assert runners
        os.kill(service.process.pid, 9)
        _, alive = psutil.wait_procs(runners, timeout=1)
        # Whoever inherits them reaps them late, if at all: a zombie has ended.
        assert all(runner.status() == psutil.STATUS_ZOMBIE for runner in alive)
        service.process.wait()


@promise("core:server:stopped")
def test_a_stopped_server_ends_its_streams_and_leaves_nothing(start: Any, tmp_path: Path) -> None:
    with start("--stop-grace", "0.2", "--audio-listen", f"unix:{tmp_path}/a.sock") as service:
        audio = socket.socket(socket.AF_UNIX)
        audio.connect(f"{tmp_path}/a.sock")
        audio.close()
        texts: list[str] = []

        def stream() -> None:
            texts.append(httpx2.post(f"{service.url}/v1/chat/completions", json=LONG, timeout=60).text)

        client = threading.Thread(target=stream)
        client.start()
        while not httpx2.get(f"{service.url}/v1/models/qwen3-14b").json()["running"]:
            pass
        children = psutil.Process(service.process.pid).children(recursive=True)
        service.process.terminate()
        assert service.process.wait(10) == 0
        client.join(10)
        assert '"code":"shutting_down"' in texts[0]
        assert not psutil.wait_procs(children, timeout=1)[1]
        assert not Path(service.socket).exists() and not (tmp_path / "a.sock").exists()


@promise("mcp:relay:starts")
def test_the_relay_starts_the_service_when_there_is_none(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environ = {**os.environ, "HOME": str(tmp_path), "MLX_LOCAL_AUDIO_PORT": "0", "MLX_LOCAL_SPARE_RUNNER": "false"}
    relay = StdioServerParameters(
        command=sys.executable, args=["-P", "-m", "mlx_local_inference", "mcp", "--port", port], env=environ
    )

    async def main() -> str:
        async with Client(relay) as client:
            return str((await client.call_tool("models", {})).content[0].text)  # type: ignore[union-attr]

    try:
        assert "qwen3-14b" in json.loads(asyncio.run(main()))["models"][0]["names"]
    finally:
        (owner,) = [
            process
            for process in psutil.process_iter(["cmdline"])
            if process.info["cmdline"]
            and process.info["cmdline"][-4:] == ["mlx_local_inference", "serve", "--port", port]
        ]
        owner.terminate()
        owner.wait(20)
    assert (tmp_path / ".mlx-server" / "logs" / "server.log").stat().st_size > 0
