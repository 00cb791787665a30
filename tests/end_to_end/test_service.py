import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai
import psutil
import pytest

SERVE = [sys.executable, "-P", "-m", "mlx_local_inference", "serve", "--demo", "--json"]
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    hostile = tmp_path_factory.mktemp("hostile")
    for name in ("engines", "mcp_server", "demo"):
        (hostile / name).mkdir()
        (hostile / name / "__init__.py").write_text("raise SystemExit('hostile')", encoding="utf-8")
    (hostile / "types.py").write_text("raise SystemExit('hostile')", encoding="utf-8")
    with subprocess.Popen(
        [*SERVE, "--port", "0", "--audio-port", "0"], stdout=subprocess.PIPE, cwd=hostile, text=True
    ) as server:
        assert server.stdout is not None
        yield json.loads(server.stdout.readline())["main_url"]
        server.terminate()
        assert server.wait(20) == 0


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as made:
        yield made


def test_the_official_client_gets_the_same_answer_streamed_and_whole(client: openai.OpenAI) -> None:
    asked = {"model": "qwen3-14b", "messages": HELLO, "max_tokens": 12, "temperature": 0}
    whole = client.chat.completions.create(**asked)  # type: ignore[call-overload]
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})  # type: ignore[call-overload]
    )
    assert whole.choices[0].message.content
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert whole.choices[0].finish_reason in ("stop", "length")


def test_an_unknown_model_is_a_404_with_the_known_names(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="qwen3-14b"):
        client.chat.completions.create(model="nobody", messages=HELLO)  # type: ignore[arg-type]


def test_an_error_known_before_the_stream_has_its_true_status(client: openai.OpenAI) -> None:
    client.chat.completions.create(model="gemma-3-12b", messages=HELLO, max_tokens=1)  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="gemma-3-12b", messages=[{"role": "user", "content": "word " * 9000}], stream=True
        )
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("host", ["evil.com", "localhost.evil.com", "127.0.0.1.nip.io", "localhost:9999", "[::1]", ""])
def test_a_host_that_is_not_ours_is_refused(url: str, host: str) -> None:
    assert httpx2.get(f"{url}/v1/models", headers={"Host": host}).status_code in (400, 403)


@pytest.mark.parametrize("origin", ["null", "http://localhost.evil.com", "https://evil.com"])
def test_a_page_from_elsewhere_is_refused(url: str, origin: str) -> None:
    answer = httpx2.get(f"{url}/health", headers={"Origin": origin})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "host_refused")


def test_every_answer_has_the_request_id_and_routes_that_are_not_there_say_so(url: str) -> None:
    answer = httpx2.get(f"{url}/v1/nothing", headers={"X-Request-Id": "mine-1"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (404, "mine-1")
    assert answer.json()["error"]["code"] == "unknown_route"
    assert httpx2.get(f"{url}/v1/chat/completions").status_code == 405


def test_health_models_and_metrics_answer(url: str) -> None:
    assert httpx2.get(f"{url}/health").json()["status"] == "ok"
    names = [one["id"] for one in httpx2.get(f"{url}/v1/models").json()["data"]]
    assert {"qwen3-14b", "gemma-3-12b"} <= set(names)
    assert httpx2.get(f"{url}/v1/models/QWEN3-14B").status_code == 200
    assert "mlx_local_requests_total" in httpx2.get(f"{url}/metrics").text


def test_a_killed_server_leaves_no_runner(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*SERVE, "--port", "0", "--audio-port", "0"], stdout=subprocess.PIPE, cwd=tmp_path, text=True
    ) as server:
        assert server.stdout is not None
        at = json.loads(server.stdout.readline())["main_url"]
        body = {"model": "qwen3-14b", "messages": HELLO, "max_tokens": 1}
        assert httpx2.post(f"{at}/v1/chat/completions", json=body, timeout=60).status_code == 200
        runners = psutil.Process(server.pid).children(recursive=True)
        assert runners
        os.kill(server.pid, 9)
        _, alive = psutil.wait_procs(runners, timeout=1)
        # Whoever inherits them reaps them late, if at all: a zombie has ended.
        assert all(runner.status() == psutil.STATUS_ZOMBIE for runner in alive)
