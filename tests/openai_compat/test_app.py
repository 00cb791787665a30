import asyncio
import json
import logging
import socket
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest

from engines.types import errors
from engines.types.trace import Traced
from openai_compat.app import AppOptions, Beside, build
from tests.promises import promise
from tests.scripted import Scripted

Serve = Callable[..., Any]
LEAVES = [leaf for leaf in errors.leaves() if not leaf.__subclasses__()] + [errors.InvalidRequest]


def asking(text: str, **fields: object) -> dict[str, Any]:
    return {"model": "qwen3-14b", "messages": [{"role": "user", "content": text}], **fields}


def post(served: Any, text: str, headers: dict[str, str] | None = None, **fields: object) -> httpx2.Response:
    return httpx2.post(f"{served.url}/v1/chat/completions", json=asking(text, **fields), headers=headers)


def events(body: str) -> list[Any]:
    """The data of a stream, each decoded but the final mark; comments are left out."""
    found = [block.removeprefix("data: ") for block in body.split("\n\n") if block.startswith("data: ")]
    return [one if one == "[DONE]" else json.loads(one) for one in found]


@promise("chat:stream:same")
def test_the_official_client_reads_the_same_answer_streamed_and_whole(client: openai.OpenAI) -> None:
    asked = asking("say: one two three", max_tokens=2)
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert whole.choices[0].message.content == "one two "
    assert whole.choices[0].finish_reason == "length"
    assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == "one two "
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == "length"


def test_a_stream_has_the_role_once_then_each_piece_then_the_reason_then_the_end(served: Any) -> None:
    *chunks, end = events(post(served, "say: one two", stream=True).text)
    choices = [one["choices"][0] for one in chunks]
    assert [one["delta"].get("role") for one in choices] == ["assistant", None, None, None]
    assert [one["delta"].get("content") or "" for one in choices] == ["", "one ", "two", ""]
    assert [one["finish_reason"] for one in choices] == [None, None, None, "stop"]
    assert chunks[-1]["timings"].keys() == {"queued", "prefill", "decode"}
    assert end == "[DONE]"
    assert len({one["id"] for one in chunks}) == 1


@promise("http:error:shape")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.code)
def test_every_error_has_its_status_and_openais_shape(
    served: Any, leaf: type[errors.ServiceError], stream: bool
) -> None:
    answer = post(served, f"fail: {leaf.code}", stream=stream)
    error = answer.json()["error"]
    assert answer.status_code == leaf.status
    assert (error["type"], error["code"], error["param"]) == (leaf.type, leaf.code, None)
    assert leaf.code in error["message"]
    assert answer.headers.get("x-should-retry") == ("false" if leaf.status >= 500 else None)


@promise("chat:stream:error")
def test_an_error_after_the_first_chunk_is_told_in_the_stream(served: Any) -> None:
    answer = post(served, "crash after 2", stream=True)
    assert answer.status_code == 200
    *chunks, failed = events(answer.text)
    assert [one["choices"][0]["delta"]["content"] for one in chunks] == ["", "1 ", "2 "]
    assert failed["error"]["code"] == "runner_died"


def test_an_error_in_a_whole_answer_says_when_to_try_again(served: Any) -> None:
    answer = post(served, "crash after 2")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "x-should-retry" not in answer.headers


@promise("core:leave:frees-the-place")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("text", ["hang", "wait 1"])
def test_a_client_that_leaves_ends_its_work(
    served: Any, stream: bool, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    body = json.dumps(asking(text, stream=stream)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port)) as wire:
        wire.sendall(head.encode() + body)
        served.until(lambda scripted: scripted.active == 1)
    served.until(lambda scripted: scripted.active == 0 and scripted.ended["cancelled"] == 1)
    assert httpx2.get(f"{served.url}/health").status_code == 200
    served.close()
    assert not [one for one in caplog.records if one.levelname == "ERROR"]


def test_a_client_that_leaves_in_the_middle_of_a_stream_ends_its_work(served: Any) -> None:
    with httpx2.stream("POST", f"{served.url}/v1/chat/completions", json=asking("hang", stream=True)) as answer:
        next(answer.iter_lines())
    served.until(lambda scripted: scripted.ended["cancelled"] == 1)


def test_a_client_that_leaves_while_it_uploads_is_no_error(served: Any, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as wire:
        wire.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\n{")
    assert httpx2.get(f"{served.url}/health").status_code == 200
    served.close()
    assert not [one for one in caplog.records if one.levelname == "ERROR"]


def test_a_client_that_uploads_when_the_server_stops_is_told_so(served: Any, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as wire:
        head = b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n"
        wire.sendall(head + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b")
        assert httpx2.get(f"{served.url}/health").status_code == 200
        served.close()
        assert b" 503 " in (told := wire.recv(1 << 16)) and b"shutting_down" in told
    assert not [one for one in caplog.records if one.levelname == "ERROR" and one.exc_info]


def test_an_unexpected_failure_shows_its_cause_in_the_log_alone(served: Any, caplog: pytest.LogCaptureFixture) -> None:
    served.scripted.problems = object()  # health can't be told as JSON
    answer = httpx2.get(f"{served.url}/health", headers={"X-Request-Id": "mine"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert "TypeError" not in answer.text
    served.close()
    assert "TypeError" in caplog.text and "request mine failed" in caplog.text


def test_a_silent_stream_is_kept_alive_and_loses_nothing(serve: Serve) -> None:
    served = serve(admission_seconds=0.05, keepalive_seconds=0.05)
    with httpx2.stream("POST", f"{served.url}/v1/chat/completions", json=asking("wait 1", stream=True)) as answer:
        lines = answer.iter_lines()
        seen = 0
        while seen < 3:
            seen += next(lines) == ": keep-alive"
        served.call(served.scripted.release)
        rest = [line for line in lines if line.startswith("data: ")]
    assert '"content":"1"' in rest[0]
    assert rest[-1] == "data: [DONE]"


HOSTS = [
    ("127.0.0.1:{port}", 200),
    ("127.0.0.1", 200),
    ("127.0.0.1:1", 200),
    ("LOCALHOST:9999", 200),
    ("[::1]", 200),
    ("[::1]:{port}", 200),
    ("named.lan", 200),
    ("named.lan:1", 200),
    ("ported.lan:1", 200),
    ("ported.lan:2", 403),
    ("evil.com", 403),
    ("localhost.evil.com:{port}", 403),
    ("127.0.0.1.nip.io:{port}", 403),
    ("evil.com:named.lan", 403),
    ("127.0.0.1:{port}, evil.com", 403),
]


def status_of(port: int, *headers: str) -> int:
    """The status of a request written by hand, so that no client mends its headers."""
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.sendall("\r\n".join(["GET /v1/models HTTP/1.1", *headers, "Connection: close", "", ""]).encode())
        return int(wire.makefile("rb").readline().split()[1])


@promise("http:boundary:rebinding")
@pytest.mark.parametrize(("host", "status"), HOSTS)
def test_only_our_own_names_are_answered(serve: Serve, host: str, status: int) -> None:
    served = serve(hosts=("named.lan", "Ported.lan:1"))
    assert status_of(served.port, f"Host: {host.format(port=served.port)}") == status


def test_a_host_that_is_missing_or_given_twice_is_refused(served: Any) -> None:
    assert status_of(served.port) in (400, 403)
    assert status_of(served.port, "Host: 127.0.0.1", "Host: 127.0.0.1") in (400, 403)


@promise("http:boundary:rebinding")
@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:{port}", 200),
        ("https://ours.example", 200),
        ("null", 403),
        ("", 403),
        ("https://127.0.0.1:{port}", 200),
        ("http://127.0.0.1:1", 403),
        ("http://localhost:{port}", 403),
        ("http://127.0.0.1:{port}.evil.com", 403),
        ("https://ours.example.evil.com", 403),
    ],
)
def test_only_our_own_pages_and_the_configured_are_answered(serve: Serve, origin: str, status: int) -> None:
    served = serve(origins=("https://ours.example",))
    own = f"Host: 127.0.0.1:{served.port}"
    assert status_of(served.port, own, f"Origin: {origin.format(port=served.port)}") == status


@promise("http:error:authenticate", "http:boundary:keys")
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer other"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "first"}, 401),
        ({"x-api-key": "first\u00e9".encode("latin-1")}, 401),
        ({"x-api-key": "clé à".encode("latin-1")}, 200),
        ({"Authorization": "Bearer clé à".encode()}, 200),
        ({"x-api-key": "钥匙".encode()}, 200),
        ({"x-api-key": "钥".encode()}, 401),
        ({"Authorization": "Bearer first"}, 200),
        ({"Authorization": "bearer first"}, 200),
        ({"x-api-key": "second"}, 200),
    ],
)
def test_a_key_opens_everything_and_health_needs_none(serve: Serve, headers: dict[str, Any], status: int) -> None:
    served = serve(api_keys=("first", "second", "clé à", "钥匙"))
    answer = httpx2.get(f"{served.url}/v1/models", headers=headers)
    assert (answer.status_code, answer.headers.get("www-authenticate")) == (status, "Bearer" if status == 401 else None)
    assert httpx2.get(f"{served.url}/health", headers=headers).status_code == 200


@promise("http:boundary:size")
@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large_is_refused_while_it_is_read(serve: Serve, declared: bool) -> None:
    served = serve(max_body_bytes=1000)
    body = json.dumps(asking("x" * 2000)).encode()
    answer = httpx2.post(f"{served.url}/v1/chat/completions", content=body if declared else iter([body]))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert post(served, "hello").status_code == 200


@promise("http:trace:answers")
@pytest.mark.parametrize("asked", ["mine-1._X", "has space", "x" * 129, ""])
def test_a_request_id_is_the_clients_if_it_is_harmless(served: Any, asked: str) -> None:
    answers = [
        post(served, "hi", {"X-Request-Id": asked}),
        httpx2.get(f"{served.url}/no", headers={"X-Request-Id": asked}),
    ]
    for answer in answers:
        got = answer.headers["x-request-id"]
        assert got == asked if asked == "mine-1._X" else got not in ("", asked)
    assert served.scripted.requests[0].trace == answers[0].headers["x-request-id"]


def test_fields_of_no_reference_are_told_back_harmlessly(served: Any) -> None:
    body = asking("hi", **{"zebra": 1, "a\r\nb": 2, "\u00e9": 3})
    answer = httpx2.post(f"{served.url}/v1/chat/completions", json=body)
    assert answer.status_code == 200
    assert answer.headers["x-ignored-fields"] == "a%0D%0Ab, zebra, %C3%A9"


def test_fields_of_no_reference_are_counted_where_they_are_too_many_for_a_header(served: Any) -> None:
    body = asking("hi", **{f"field-{number:03}": 1 for number in range(500)}, zz="x", **{"é" * 5000: 1})
    told = httpx2.post(f"{served.url}/v1/chat/completions", json=body).headers["x-ignored-fields"]
    assert told.startswith("field-000, field-001, ") and len(told) < 2100
    assert told.endswith(f"... and {502 - told.count('field')} more")


@promise("http:trace:log")
def test_every_line_of_the_log_names_its_request(served: Any) -> None:
    def say() -> Any:
        logging.getLogger("engines").warning("asked")
        return asked()

    asked, served.scripted.health = served.scripted.health, say
    told = Told()
    logging.getLogger().addHandler(told)
    try:
        httpx2.get(f"{served.url}/health", headers={"X-Request-Id": "first"})
        httpx2.get(f"{served.url}/health", headers={"X-Request-Id": "second"})
        post(served, "fail: runner_died", {"X-Request-Id": "third"})
    finally:
        logging.getLogger().removeHandler(told)
    assert told.traces == ["first", "second", "third"]


class Told(logging.Handler):
    """The requests that lines of the log concern."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.addFilter(Traced())
        self.traces: list[str] = []

    def emit(self, record: Any) -> None:
        self.traces.append(record.trace)


def test_what_is_not_there_is_told_in_openais_shape(served: Any) -> None:
    missing = httpx2.get(f"{served.url}/nothing")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "unknown_route")
    refused = httpx2.get(f"{served.url}/v1/chat/completions")
    assert (refused.status_code, refused.json()["error"]["code"]) == (405, "method_not_allowed")
    assert refused.headers["allow"] == "POST"


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("content", [None, b"{}"])
def test_an_app_beside_is_asked_by_its_own_methods_alone(method: str, content: bytes | None) -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("it was asked")

    built = build(Scripted(), AppOptions(), {"/sse": Beside(endless, ("GET",))})

    async def ask() -> httpx2.Response:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(built), base_url="http://localhost") as http:
            return await http.request(method, "/sse", content=content)

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert method == "HEAD" or answer.json()["error"]["code"] == "method_not_allowed"


def test_health_tells_the_problems(served: Any) -> None:
    assert httpx2.get(f"{served.url}/health").status_code == 200
    served.scripted.problems = ("qwen3-14b: no step for 60 s",)
    answer = httpx2.get(f"{served.url}/health")
    assert (answer.status_code, answer.json()["problems"]) == (503, ["qwen3-14b: no step for 60 s"])


def test_models_are_listed_loaded_and_unloaded(served: Any) -> None:
    def phase() -> str:
        return str(httpx2.get(f"{served.url}/v1/models/qwen3-14b").json()["phase"])

    listed = httpx2.get(f"{served.url}/v1/models").json()
    assert (listed["object"], [one["id"] for one in listed["data"]][:2]) == ("list", ["qwen3-14b", "gemma-3-12b"])
    asked = {"model": "qwen3-14b", "zebra": 1}
    queried = httpx2.post(f"{served.url}/v1/load?stream=true&%E8%AA%9E=", json=asked)
    assert queried.headers["x-ignored-fields"] == "zebra, ?stream, ?%E8%AA%9E"
    loaded = httpx2.post(f"{served.url}/v1/load", json={"model": "qwen3-14b", "zebra": 1})
    assert (loaded.status_code, loaded.headers["x-ignored-fields"]) == (200, "zebra")
    assert phase() == "ready"
    assert httpx2.post(f"{served.url}/v1/unload", json={"model": "qwen3-14b"}).status_code == 200
    assert phase() == "unloaded"
    assert httpx2.get(f"{served.url}/v1/models/a/b").json()["error"]["code"] == "model_not_found"
    assert httpx2.post(f"{served.url}/v1/load", json={"model": "nobody"}).status_code == 404
    assert httpx2.post(f"{served.url}/v1/load", json={}).json()["error"]["param"] == "model"


def test_metrics_count_requests_by_outcome(served: Any) -> None:
    post(served, "hi")
    text = httpx2.get(f"{served.url}/metrics").text
    assert 'mlx_local_requests_total{outcome="done"} 1.0' in text
    assert "mlx_local_requests_running 0.0" in text
