"""Pages from elsewhere: those that are allowed can read every answer, all others are refused."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from http_server.cors import EXPOSED
from tests.promises import promise

Serve = Callable[..., Any]
PAGE = "http://localhost:3000"
ROOT = Path(__file__).parents[2]


def ask(served: Any, method: str, path: str, origin: str = PAGE, **options: Any) -> httpx2.Response:
    headers = {"Origin": origin, **options.pop("headers", {})}
    return httpx2.request(method, f"{served.url}{path}", headers=headers, **options)


def may_read(answer: httpx2.Response, origin: str = PAGE) -> bool:
    allowed = answer.headers.get("access-control-allow-origin") == origin
    exposed = {name.strip() for name in answer.headers.get("access-control-expose-headers", "").split(",")}
    return allowed and exposed == set(EXPOSED) and "Origin" in answer.headers["vary"].replace(" ", "").split(",")


@promise("http:boundary:pages")
def test_a_page_that_is_allowed_can_read_every_answer_errors_and_streams_too(serve: Serve) -> None:
    served = serve(origins=(PAGE,), max_body_bytes=1000, api_keys=("key",))
    asked = {"model": "qwen3-14b", "messages": [{"role": "user", "content": "fail: runner_died"}]}
    streamed = {**asked, "messages": [{"role": "user", "content": "crash after 2"}], "stream": True}
    key = {"Authorization": "Bearer key"}
    asks: list[tuple[str, str, int, dict[str, Any]]] = [
        ("GET", "/health", 200, {}),
        ("GET", "/metrics", 200, {"headers": key}),
        ("GET", "/v1/models", 200, {"headers": key}),
        ("GET", "/v1/models", 401, {}),
        ("GET", "/nothing", 404, {"headers": key}),
        ("GET", "/v1/chat/completions", 405, {"headers": key}),
        ("POST", "/v1/chat/completions", 400, {"headers": key, "content": b"{"}),
        ("POST", "/v1/chat/completions", 413, {"headers": key, "content": b" " * 1001}),
        ("POST", "/v1/chat/completions", 503, {"headers": key, "json": asked}),
        ("POST", "/v1/chat/completions", 200, {"headers": key, "json": streamed}),
        ("DELETE", "/v1/audio/voices/nobody", 404, {"headers": key}),
    ]
    for method, path, status, options in asks:
        answer = ask(served, method, path, **options)
        assert (answer.status_code, may_read(answer)) == (status, True), (method, path, status)
    served.scripted.problems = object()  # can't be told as JSON
    assert may_read(failed := ask(served, "GET", "/health")) and failed.status_code == 500


@promise("http:boundary:pages")
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/mcp", "/v1/audio/voices/me", "/health", "/nothing"])
def test_a_preflight_needs_no_key_and_reaches_no_route(serve: Serve, path: str) -> None:
    served = serve(origins=(PAGE,), api_keys=("key",))
    wanted = "authorization, mcp-protocol-version, x-stainless-os"
    headers = {"Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": wanted}
    answer = ask(served, "OPTIONS", path, headers=headers)
    assert (answer.status_code, answer.content, may_read(answer)) == (204, b"", True)
    assert set(answer.headers["access-control-allow-methods"].split(", ")) >= {"GET", "POST", "DELETE", "OPTIONS"}
    assert set(wanted.split(", ")) <= set(answer.headers["access-control-allow-headers"].split(", "))
    assert "access-control-allow-private-network" not in answer.headers
    private = ask(served, "OPTIONS", path, headers={**headers, "Access-Control-Request-Private-Network": "true"})
    assert private.headers["access-control-allow-private-network"] == "true"


def test_header_names_that_are_none_are_not_repeated(serve: Serve) -> None:
    served = serve(origins=(PAGE,))
    headers = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "a b, <c>"}
    allowed = ask(served, "OPTIONS", "/health", headers=headers).headers["access-control-allow-headers"]
    assert "<" not in allowed and "Authorization" in allowed


@promise("http:boundary:pages")
@pytest.mark.parametrize("origin", ["null", "http://localhost:3001", "app://elsewhere", "https://evil.com"])
def test_all_other_pages_are_refused_and_told_nothing(serve: Serve, origin: str) -> None:
    for served in (serve(origins=(PAGE,)), serve()):
        asks = {"Access-Control-Request-Method": "GET"}
        for answer in (ask(served, "GET", "/health", origin), ask(served, "OPTIONS", "/health", origin, headers=asks)):
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "host_refused")
            assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "origin", ["null", "app://obsidian.md", "vscode-webview://0a1b", "chrome-extension://abc", "file://"]
)
def test_an_app_is_allowed_by_its_own_kind_of_origin(serve: Serve, origin: str) -> None:
    served = serve(origins=(origin,))
    assert may_read(ask(served, "GET", "/v1/models", origin), origin)
    assert ask(served, "GET", "/v1/models", PAGE).status_code == 403


def test_a_page_that_is_allowed_may_not_call_by_a_foreign_name(serve: Serve) -> None:
    served = serve(origins=(PAGE,))
    headers = {"Host": "evil.com", "Access-Control-Request-Method": "GET"}
    assert ask(served, "GET", "/health", headers=headers).status_code == 403
    assert ask(served, "OPTIONS", "/health", headers=headers).status_code == 403


def test_answers_that_differ_by_page_say_so_to_caches(serve: Serve) -> None:
    assert httpx2.get(f"{serve(origins=(PAGE,)).url}/health").headers["vary"] == "Origin"
    assert "vary" not in httpx2.get(f"{serve().url}/health").headers


def test_every_header_of_our_own_can_be_read_by_pages() -> None:
    """A new one must stand in `EXPOSED`, or no page ever sees it."""
    paths = [path for floor in ("openai_compat", "http_server") for path in (ROOT / floor).rglob("*.py")]
    sources = [path.read_text(encoding="utf-8") for path in paths]
    ours = {name for source in sources for name in re.findall(r'"(X-[A-Z][A-Za-z-]+)"', source)}
    assert "X-Incomplete" in ours and ours <= set(EXPOSED) | {"X-Api-Key"}
