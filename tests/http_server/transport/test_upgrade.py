import pytest

from http_server.transport.upgrade import without_offer


@pytest.mark.parametrize(
    ("connection", "left"),
    [
        (b"Upgrade", b""),
        (b"Upgrade, HTTP2-Settings", b""),
        (b"keep-alive, upgrade", b"keep-alive"),
        (b"close,UPGRADE", b"close"),
    ],
)
def test_an_offer_goes_and_the_rest_of_the_head_stays(connection: bytes, left: bytes) -> None:
    headers = [(b"host", b"a"), (b"connection", connection), (b"upgrade", b"h2c"), (b"content-length", b"3")]
    head = without_offer("POST", b"/v1?x=1", "1.1", headers)
    assert head == b"POST /v1?x=1 HTTP/1.1\r\nhost: a\r\nconnection: " + left + b"\r\ncontent-length: 3\r\n\r\n"
