"""Owns the promise that what is no HTTP request is refused like anything else, at every door."""

from __future__ import annotations

import http.client
import socket
import time
from contextlib import closing
from typing import Final

import msgspec
import pytest

from tests.integration.box import RunningBox

DOORS: Final = ("pos", "public", "local")
_POST: Final = b"POST /v1/payment HTTP/1.1\r\nHost: a\r\nContent-Type: application/jose\r\n"
MALFORMED: Final = {
    "no HTTP at all": b"GARBAGE\r\n\r\n",
    "no method": b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
    "another version": b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    "no address": b"GET http://[::1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nHost: a\r\nA: b\0c\r\n\r\n",
    "folded header": b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: a\n\n",
    "too many headers": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"A%d: b\r\n" % at for at in range(500)) + b"\r\n",
    "two lengths": _POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "signed length": _POST + b"Content-Length: +3\r\n\r\nabc",
    "space before the colon": _POST + b"Content-Length : 3\r\n\r\nabc",
    "length and chunks": _POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and more": _POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "another encoding": _POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "no chunk": _POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    "unknown expectation": _POST + b"Expect: nonsense\r\nContent-Length: 0\r\n\r\n",
    "hidden behind a good one": b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGARBAGE\r\n\r\n",
}
TOO_LARGE: Final = {
    "request line": b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "header": b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 10_000 + b"\r\n\r\n",
}


def connect(box: RunningBox, door: str) -> socket.socket:
    if door == "pos":
        return box.connect()
    if door == "public":
        return socket.create_connection(("127.0.0.1", box.public_port), 10)
    local = socket.socket(socket.AF_UNIX)
    local.settimeout(10)
    local.connect(str(box.box.data / "local.sock"))
    return local


def assert_problem(connection: socket.socket, status: int, code: str) -> None:
    """A problem as JSON without the software's name, after which the connection ends."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    assert (answer.status, answer.headers.get_content_type()) == (status, "application/problem+json")
    assert "Server" not in answer.headers
    problem = msgspec.json.decode(answer.read())
    assert (problem["code"], problem["status"]) == (code, status)
    assert abs(problem["now_ms"] - time.time_ns() // 1_000_000) < 60_000


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_head_is_a_problem(box: RunningBox, door: str, case: str) -> None:
    with closing(connect(box, door)) as connection:
        connection.sendall(MALFORMED[case])
        assert_problem(connection, 400, "head_malformed")
        assert connection.recv(1) == b""


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("case", TOO_LARGE)
def test_large_head_is_a_problem(box: RunningBox, door: str, case: str) -> None:
    with closing(connect(box, door)) as connection:
        connection.sendall(TOO_LARGE[case])
        assert_problem(connection, 431, "head_too_large")


def test_chunk_that_turns_bad_is_answered_at_once(box: RunningBox) -> None:
    with closing(connect(box, "pos")) as connection:
        connection.settimeout(20)  # less than a body is waited for
        connection.sendall(_POST + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(64).startswith(b"HTTP/1.1 100")  # so the head is read before the chunk comes
        connection.sendall(b"3\r\nabc\r\nzz\r\n")
        assert_problem(connection, 400, "body_incomplete")


@pytest.mark.parametrize(("door", "path"), [("pos", "/v1/info"), ("public", "/trust.json"), ("local", "/status")])
def test_good_answer_does_not_name_the_software_either(box: RunningBox, door: str, path: str) -> None:
    with closing(connect(box, door)) as connection:
        connection.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 200
        assert "Server" not in answer.headers
