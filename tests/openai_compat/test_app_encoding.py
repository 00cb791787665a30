import errno
import gzip
import json
import os
import zlib
from typing import Any

import httpx2
import pytest

from http_server import uploads as scratches
from tests.openai_compat.conftest import Serve, Served
from tests.promises import promise

ASK = {"model": "qwen3-14b", "messages": [{"role": "user", "content": "hello"}]}
HEADERS = {"Content-Type": "application/json"}


def post(served: Served, body: bytes, coding: str, **headers: str) -> httpx2.Response:
    return httpx2.post(
        f"{served.url}/v1/chat/completions",
        content=body,
        headers={**HEADERS, "Content-Encoding": coding, **headers},
    )


@promise("http:encoding:inflated")
@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)])
def test_a_body_is_read_as_it_was_packed(served: Served, coding: str, pack: Any) -> None:
    told = post(served, pack(json.dumps(ASK).encode()), coding)
    assert told.status_code == 200, told.text
    plain = httpx2.post(f"{served.url}/v1/chat/completions", json=ASK).json()
    assert told.json()["choices"] == plain["choices"]


@promise("http:encoding:inflated")
@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br"])
def test_a_coding_that_isnt_taken_is_a_415_with_those_that_are(served: Served, coding: str) -> None:
    told = post(served, b"...", coding)
    assert (told.status_code, told.json()["error"]["code"]) == (415, "unsupported_content_encoding")
    assert "gzip" in told.headers["accept-encoding"]


def test_what_is_no_gzip_is_a_400_that_says_so(served: Served) -> None:
    for body in (json.dumps(ASK).encode(), gzip.compress(json.dumps(ASK).encode())[:-9]):
        told = post(served, body, "gzip")
        assert told.status_code == 400 and "gzip" in told.json()["error"]["message"]


@promise("http:encoding:inflated")
def test_a_limit_counts_what_comes_out_and_what_goes_in(serve: Serve) -> None:
    served = serve(max_body_bytes=100_000)
    bomb = gzip.compress(bytes(50 << 20))
    endless = gzip.compress(b"") * 10_000
    for body in (bomb, endless):
        told = post(served, body, "gzip")
        assert (told.status_code, told.json()["error"]["code"]) == (413, "body_too_large")


def test_an_upload_may_be_packed_too(served: Served) -> None:
    form = {"file": ("a.wav", b"RIFF" + bytes(3000))}
    request = httpx2.Request("POST", f"{served.url}/v1/audio/transcriptions", files=form, data={"model": "qwen3-14b"})
    packed = gzip.compress(request.read())
    headers = {"Content-Type": request.headers["content-type"], "Content-Encoding": "gzip"}
    told = httpx2.post(str(request.url), content=packed, headers=headers)
    plain = httpx2.post(str(request.url), content=request.read(), headers={"Content-Type": headers["Content-Type"]})
    assert (told.status_code, told.json()) == (plain.status_code, plain.json())


@promise("http:shortage:told")
@pytest.mark.parametrize(("number", "status"), [(errno.ENOSPC, 507), (errno.EDQUOT, 507), (errno.EMFILE, 503)])
def test_a_want_of_disk_or_descriptors_is_told_as_that(
    served: Served, number: int, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: str) -> object:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(scratches, "_make", full)
    told = httpx2.post(f"{served.url}/v1/audio/transcriptions", files={"file": b"x"}, data={"model": "qwen3-14b"})
    assert told.status_code == status and told.json()["error"]["code"] in ("does_not_fit", "too_many_open_files")
