"""Who may ask, by `Host` and `Origin` alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from http_server.callers import Callers, host_entry, host_name, origin_entry
from tests.promises import promise

LOOPBACK = ["localhost", "LocalHost", "localhost.", "127.0.0.1", "127.8.9.10", "[::1]", "[0:0:0:0:0:0:0:1]"]
FOREIGN = [
    *("evil.com", "localhost.evil.com", "evil-localhost", "foo.localhost", "127.0.0.1.nip.io", "127.0.0.1.evil.com"),
    *("128.0.0.1", "0.0.0.0", "10.0.0.1", "0127.0.0.1", "[::2]", "[::]", "[::ffff:10.0.0.1]", "2130706433", "0x7f.1"),
]
GARBAGE = [
    *("", ":", ":80", "::1", "[::1", "::1]", "[]", "[localhost]", "[::1]x", "[::1]:", "localhost:", "localhost:0"),
    *("localhost:65536", "localhost:080000", "localhost:+80", "localhost:٣", "localhost:80:80", "localhost :80"),
    *("localhost, evil.com", "http://localhost", "localhost/", "a@localhost", "localhost..", "ｌocalhost", "[::1%lo]"),
]


@promise("http:boundary:rebinding")
@pytest.mark.parametrize("name", LOOPBACK)
@given(port=st.integers(1, 65535))
def test_a_loopback_name_is_right_with_any_port_and_with_none(name: str, port: int) -> None:
    assert Callers().knows(name) and Callers().knows(f"{name}:{port}")


@promise("http:boundary:rebinding")
@pytest.mark.parametrize("name", FOREIGN)
@given(port=st.integers(1, 65535))
def test_a_foreign_name_is_wrong_with_any_port(name: str, port: int) -> None:
    assert not Callers().knows(name) and not Callers().knows(f"{name}:{port}")


@pytest.mark.parametrize("host", GARBAGE)
def test_what_is_no_host_is_refused(host: str) -> None:
    assert not Callers(hosts=["localhost", "evil.com"]).knows(host)


@given(st.text())
def test_any_text_at_all_is_a_host_or_not(host: str) -> None:
    assert isinstance(Callers().knows(host), bool) and (host_name(host) is None or host.isascii())


@pytest.mark.parametrize(
    ("entry", "host", "known"),
    [
        ("mac.local", "MAC.local:9", True),
        ("Mac.Local.", "mac.local", True),
        ("mac.local:8787", "mac.local:8787", True),
        ("mac.local:8787", "mac.local:8788", False),
        ("mac.local:8787", "mac.local", False),
        ("fe80::1", "[FE80::1]:80", True),
        ("[fe80::1]:80", "[fe80:0::1]:80", True),
        ("[fe80::1]:80", "[fe80::1]:81", False),
        ("müller.lan", "xn--mller-kva.lan:1", True),
    ],
)
def test_a_configured_name_holds_for_any_port_unless_it_has_one(entry: str, host: str, known: bool) -> None:
    assert Callers(hosts=[entry]).knows(host) is known


@pytest.mark.parametrize("entry", ["*", "*.lan", "http://mac.local", "mac.local/", "mac.local:port", "", "a b", ":80"])
def test_a_name_that_no_client_could_send_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="is no name"):
        host_entry(entry)


@pytest.mark.parametrize(
    ("entry", "origin", "allowed"),
    [
        ("https://App.example/", "https://app.example", True),
        ("https://app.example:443", "https://app.example", True),
        ("http://localhost:3000", "http://localhost:3000", True),
        ("http://localhost:3000", "https://localhost:3000", False),
        ("http://localhost:3000", "http://localhost:3001", False),
        ("http://localhost", "http://localhost.evil.com", False),
        ("app.example", "http://app.example", True),
        ("app.example", "https://app.example", True),
        ("app.example", "app://app.example", False),
        ("null", "null", True),
        ("app://obsidian.md", "app://obsidian.md", True),
        ("app://-", "app://-", True),
        ("file://", "file://", True),
        ("tauri://localhost", "tauri://localhost", True),
        ("capacitor://localhost", "capacitor://localhost", True),
        ("chrome-extension://abcdef", "chrome-extension://abcdef", True),
        ("chrome-extension://abcdef", "chrome-extension://abcdeg", False),
        ("vscode-webview://*", "vscode-webview://0a1b-2c", True),
        ("vscode-webview://*", "vscode-webview-x://0a1b", False),
        ("vscode-webview://*", "null", False),
    ],
)
def test_an_origin_is_allowed_by_its_name_alone(entry: str, origin: str, allowed: bool) -> None:
    assert Callers(origins=[entry]).allows(origin) is allowed
    assert not Callers().allows(origin)


@pytest.mark.parametrize(
    "entry", ["*", "http://*", "https://*.example", "https://", "https://a/b", "", "a b", "App_1://x"]
)
def test_an_origin_that_no_page_could_have_or_every_page_would_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="origin|any page"):
        origin_entry(entry)


@promise("http:boundary:rebinding")
@pytest.mark.parametrize(
    ("origin", "own"),
    [
        ("http://Mac.local:9000", True),
        ("https://mac.local:9000", True),
        ("http://mac.local", False),
        ("http://mac.local:9000.evil.com", False),
        ("ftp://mac.local:9000", False),
        ("null", False),
    ],
)
def test_the_own_origin_is_scheme_and_host_as_the_client_sent_them(origin: str, own: bool) -> None:
    assert Callers.is_own(origin, "mac.local:9000") is own
