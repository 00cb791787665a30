import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.types.errors import HeadersTooLarge, InvalidRequest, ServiceError, TargetTooLong
from http_server.transport.limits import TransportLimits, most_connections
from http_server.transport.meter import Meter, Place

LIMITS = TransportLimits(target=40, head=400, headers=10, beside_body=300)


class Parsed:
    """A parser that tells a meter what it finds, as the protocol does."""

    def __init__(self, limits: TransportLimits = LIMITS) -> None:
        self.meter = Meter(limits)
        self._parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self.meter.began()

    def on_url(self, url: bytes) -> None:
        self.meter.target(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self.meter.header(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self.meter.head_ended()

    def on_body(self, body: bytes) -> None:
        self.meter.body(len(body))

    def on_message_complete(self) -> None:
        self.meter.ended()

    def feed(self, data: bytes, step: int = 64) -> None:
        for place in range(0, len(data), step):
            piece = data[place : place + step]
            try:
                self._parser.feed_data(piece)
            except httptools.HttpParserCallbackError as error:
                assert isinstance(error.__context__, ServiceError)
                raise error.__context__ from None
            self.meter.fed(len(piece))


HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize("step", [1, 7, 64, 10_000])
@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"GET /" + b"a" * 60 + b" HTTP/1.1\r\n\r\n", TargetTooLong),
        (b"GET /?" + b"a" * 60, TargetTooLong),
        (HEAD + b"X: " + b"a" * 500 + b"\r\n\r\n", HeadersTooLarge),
        (HEAD + b"X: " + b"a" * 15_000, HeadersTooLarge),
        (HEAD + b"X" * 15_000, HeadersTooLarge),
        (HEAD + b"X: 1\r\n" * 12 + b"\r\n", HeadersTooLarge),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + b"T: 1\r\n" * 20 + b"\r\n", HeadersTooLarge),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nT: " + b"a" * 500 + b"\r\n\r\n", HeadersTooLarge),
    ],
    ids=["target", "query", "value", "endless value", "endless name", "number", "trailers", "trailer"],
)
def test_what_is_larger_than_a_limit_is_refused_however_it_is_cut(
    sent: bytes, error: type[ServiceError], step: int
) -> None:
    with pytest.raises((error, InvalidRequest) if sent.startswith(HEAD + b"Transfer") else error):
        Parsed().feed(sent, step)


@pytest.mark.parametrize(
    "sent", [b"5;x=" + b"a" * 5000 + b"\r\n", b"1\r\na\r\n0\r\nT: " + b"a" * 5000], ids=["extension", "endless trailer"]
)
def test_what_grows_beside_a_body_has_a_limit(sent: bytes) -> None:
    with pytest.raises((InvalidRequest, HeadersTooLarge)):
        Parsed().feed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + sent)


@given(
    st.lists(st.integers(0, 900), min_size=1, max_size=6), st.integers(1, 70), st.sampled_from([1, 3, 100]), st.data()
)
def test_messages_within_the_limits_pass_however_they_are_cut(
    sizes: list[int], step: int, chunk: int, data: st.DataObject
) -> None:
    sent = b""
    for size in sizes:
        if data.draw(st.booleans()):
            sent += HEAD + b"Content-Length: %d\r\n\r\n" % size + b"b" * size
        else:
            pieces = [min(chunk, size - place) for place in range(0, size, chunk)]
            body = b"".join(b"%x\r\n%b\r\n" % (piece, b"b" * piece) for piece in pieces)
            sent += HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"
    parsed = Parsed()
    parsed.feed(sent, step)
    assert parsed.meter.place is Place.BETWEEN


@pytest.mark.parametrize(("descriptors", "most"), [(64, 16), (256, 160), (1024, 768), (10_240, 4096)])
def test_connections_leave_descriptors_for_the_rest(descriptors: int, most: int) -> None:
    assert most_connections(descriptors) == most
