"""The guard and the watched protocols over real sockets: large, slow and broken requests against a real uvicorn, on both parsers."""

from __future__ import annotations

import json
import logging
import random
import re
import socket
import threading
import time
from contextlib import suppress
from dataclasses import replace
from itertools import repeat
from types import SimpleNamespace

import pytest

pytest.importorskip("uvicorn", reason="serving needs the extra 'serve'")
pytest.importorskip("httptools", reason="serving needs the extra 'serve'")

import uvicorn

from sightline.serving.guard import Limits, guarded
from sightline.serving.h11_protocol import WatchedH11
from sightline.serving.httptools_protocol import WatchedHttptools

CONFIG = SimpleNamespace(host="127.0.0.1", port=0, token=None, allow_host=None, max_upload=1_000_000, max_files=3, timeout=30.0)
TOKEN = "a-token-of-some-length"
GIGABYTE = 1 << 30
# Longer than anything here takes, so that a test that hangs fails.
PATIENCE = 20


class Served:
    """An application that reads what comes, behind the guard, on a port of its own."""

    def __init__(self, protocol, limits, **more):
        self.seen = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        quiet = {"ws": "none", "lifespan": "off", "log_config": None, "proxy_headers": False}
        config = uvicorn.Config(guarded(self.application, limits), http=protocol, **quiet, **more)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]})

    async def application(self, scope, receive, send):
        self.seen.append(scope)
        read, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            read += len(message["body"])
            more = message["more_body"]
        answer = b"x" * 30_000_000 if scope["path"] == "/large" else b"done"
        headers = [(b"content-length", str(len(answer)).encode()), (b"x-read", str(read).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def __enter__(self):
        self.thread.start()
        wait_for(lambda: self.server.started)
        return self

    def __exit__(self, *_):
        self.server.should_exit = self.server.force_exit = True
        self.thread.join(PATIENCE)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def head(self, method="GET", path="/", *lines, host=None):
        return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{self.port}'}", *lines, "", ""]).encode("latin-1")

    def ask(self, *words, body=b"", **named):
        """The answer to one request, as (status, headers, body)."""
        with self.connect() as client:
            client.sendall(self.head(*words, **named) + body)
            return answer_of(client)


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def send_until_closed(client, pieces):
    """The bytes of the pieces that went. A connection may be closed while they are on their way, as its answer then says."""
    sent = 0
    with suppress(ConnectionResetError, BrokenPipeError):
        for piece in pieces:
            client.sendall(piece)
            sent += len(piece)
    return sent


def received(client, *, until_closed=False):
    """What comes, up to the end of one answer or of the connection."""
    came = b""
    while True:
        head, found, body = came.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if found and not until_closed and len(body) >= int(length[1] if length else 0):
            return came
        try:
            part = client.recv(65536)
        except ConnectionResetError:
            return came
        if not part:
            return came
        came += part


def answer_of(client, **how):
    head, _, body = received(client, **how).partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return int(first.split(" ")[1]), dict(line.lower().split(": ", 1) for line in lines), body


def refused(client):
    """The status with which a connection is refused; it is closed afterwards, and its answer is locked down like every other."""
    status, headers, body = answer_of(client, until_closed=True)
    assert json.loads(body)["error"]
    assert headers["connection"] == "close"
    assert headers["x-content-type-options"] == "nosniff"
    return status


PROTOCOLS = [WatchedHttptools, WatchedH11]


@pytest.fixture(scope="module", params=PROTOCOLS, ids=["httptools", "h11"])
def served(request):
    with Served(request.param, Limits.of(CONFIG)) as served:
        yield served


@pytest.fixture(scope="module", params=PROTOCOLS, ids=["httptools", "h11"])
def hasty(request):
    """A server that waits a fifth of a second where others wait half a minute."""
    protocol = type("Hasty", (request.param,), {"head_seconds": 0.2, "answer_seconds": 0.2})
    with Served(protocol, replace(Limits.of(CONFIG), seconds=0.2)) as served:
        yield served


def test_requests_are_answered_and_connections_kept(served):
    with served.connect() as client:
        for _ in range(3):
            client.sendall(served.head("POST", "/v1/predict", "Content-Length: 5") + b"hello")
            status, headers, body = answer_of(client)
            assert (status, headers["x-read"], body) == (200, "5", b"done")
            assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "line", ["Content-Length: 1073741824", "Content-Length: 1073741824\r\nExpect: 100-continue", "Transfer-Encoding: chunked"]
)
def test_a_gigabyte_is_refused_and_not_taken(served, line):
    """The whole of it is offered; what is sent until the connection is closed is what fits into the system's buffers."""
    before = len(served.seen)
    chunked = "chunked" in line
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n" if chunked else b"x" * 65536
    with served.connect() as client:
        client.sendall(served.head("POST", "/v1/predict", line))
        sent = send_until_closed(client, repeat(piece, GIGABYTE // 65536))
        assert refused(client) == 413
    assert sent < GIGABYTE / 16
    assert len(served.seen) == before + chunked


def test_a_client_that_asks_first_sends_nothing(served):
    with served.connect() as client:
        client.sendall(served.head("POST", "/v1/predict", f"Content-Length: {GIGABYTE}", "Expect: 100-continue"))
        assert refused(client) == 413
        client.settimeout(PATIENCE)
    with served.connect() as client:
        client.sendall(served.head("POST", "/v1/predict", "Content-Length: 5", "Expect: 100-continue"))
        assert client.recv(100).startswith(b"HTTP/1.1 100")
        client.sendall(b"hello")
        assert answer_of(client)[0] == 200


def test_a_connection_that_says_nothing_is_closed_without_a_word(hasty):
    """Browsers connect ahead, and would take an answer to nothing for one to what they ask next."""
    with hasty.connect() as client:
        assert received(client, until_closed=True) == b""


@pytest.mark.parametrize("drip", [b"G", b"GET / HTTP/1.1\r\nHost: 127", b"\r\n", b"\r\n\r\n\r\n"])
def test_a_head_that_never_comes_closes_its_connection(hasty, drip):
    """Slow loris. What it has sent so far makes no difference, nor that it goes on sending."""
    with hasty.connect() as client:
        client.sendall(drip)
        # h11 takes no empty lines before a request, and says so at once.
        assert refused(client) in ((400, 408) if drip.startswith(b"\r") else (408,))


def test_a_head_that_drips_closes_its_connection(hasty):
    def drip(client):
        client.sendall(b"GET / HTTP/1.1\r\n")
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            client.sendall(b"X-A: b\r\n")
            time.sleep(0.02)

    with hasty.connect() as client, pytest.raises((ConnectionResetError, BrokenPipeError)):
        drip(client)


def test_a_second_head_that_drips_does_too(hasty):
    with hasty.connect() as client:
        client.sendall(hasty.head())
        assert answer_of(client)[0] == 200
        client.sendall(b"GET / HTTP")
        assert refused(client) == 408


def test_a_body_that_drips_is_given_up(hasty):
    with hasty.connect() as client:
        client.sendall(hasty.head("POST", "/v1/predict", "Content-Length: 5") + b"h")
        assert refused(client) == 408


def test_what_nobody_wants_of_a_body_cannot_drip_either(hasty):
    with hasty.connect() as client:
        client.sendall(hasty.head("POST", "/v1/predict", "Content-Length: 50", "Origin: http://evil.example") + b"h")
        status, _, _ = answer_of(client)
        assert status == 403
        assert refused(client) == 408


def declined(served, client, size=5):
    """A request is declined before its body has come; the body comes all the same, as clients send it, and the connection stays."""
    client.sendall(served.head("POST", "/v1/predict", f"Content-Length: {size}", "Origin: http://evil.example") + b"h")
    assert answer_of(client)[0] == 403
    client.sendall(b"x" * (size - 1))


def test_a_connection_whose_request_was_declined_early_waits_for_the_next_without_a_word(hasty):
    """Under overload many are; what is said to an idle connection would be taken for the answer to its next request."""
    with hasty.connect() as client:
        declined(hasty, client)
        time.sleep(3 * 0.2)
        client.sendall(hasty.head())
        assert answer_of(client)[0] == 200


def test_a_large_body_of_a_declined_request_is_thrown_away(served):
    with served.connect() as client:
        for _ in range(3):
            declined(served, client, 500_000)
        client.sendall(served.head())
        assert answer_of(client)[0] == 200


def test_nothing_is_kept_of_a_body_that_came_with_the_head_of_a_declined_request(served):
    """It lies with uvicorn before the guard is asked, on hundreds of connections under overload."""
    with served.connect() as client:
        head = served.head("POST", "/v1/predict", "Content-Length: 50000", "Origin: http://evil.example")
        client.sendall(head + b"x" * 50_000)
        assert answer_of(client)[0] == 403
        connections = served.server.server_state.connections
        wait_for(lambda: [len(kept.cycle.body) for kept in connections if not kept.answering] == [0])


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["httptools", "h11"])
def test_and_is_closed_as_every_idle_one_is(protocol):
    with Served(protocol, Limits.of(CONFIG), timeout_keep_alive=0.2) as served, served.connect() as client:
        declined(served, client)
        assert received(client, until_closed=True) == b""


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["httptools", "h11"])
def test_connections_are_limited(protocol):
    with Served(type("Small", (protocol,), {"most_connections": 10}), Limits.of(CONFIG)) as served:
        waiting = [served.connect() for _ in range(10)]
        wait_for(lambda: len(served.server.server_state.connections) == 10)
        with served.connect() as client:
            assert refused(client) == 503
        for client in waiting:
            client.close()
        wait_for(lambda: not served.server.server_state.connections)
        assert served.ask()[0] == 200


def test_an_answer_that_nobody_takes_is_given_up(hasty):
    with hasty.connect() as client:
        client.sendall(hasty.head("GET", "/large"))
        wait_for(lambda: any(scope["path"] == "/large" for scope in hasty.seen))
        wait_for(lambda: not hasty.server.server_state.connections)


@pytest.mark.parametrize("pieces", [1, 100])
def test_a_large_head_is_refused(served, pieces):
    head = served.head("GET", "/", *[f"X-{number}: {'a' * 1000}" for number in range(100)])
    size = len(head) // pieces + 1
    with served.connect() as client:
        send_until_closed(client, [head[start : start + size] for start in range(0, len(head), size)])
        status = answer_of(client)[0]
    assert status in (400, 431)
    assert not any(name.startswith(b"x-9") for scope in served.seen for name, _ in scope["headers"])


@pytest.mark.parametrize("flood", [b"1;" + b"e" * 5000 + b"\r\nx\r\n", b"0\r\n" + b"X-Trailer: a\r\n" * 400])
def test_a_flood_around_a_body_is_refused(served, flood):
    """Extensions of chunks, and headers behind the body: neither is part of the body that the upload's limit counts."""
    with served.connect() as client:
        client.sendall(served.head("POST", "/v1/predict", "Transfer-Encoding: chunked"))
        send_until_closed(client, [flood, *repeat(flood.removeprefix(b"0\r\n"), 99)])
        assert refused(client) == 400


def test_trailers_change_nothing(served):
    with served.connect() as client:
        body = b"5\r\nhello\r\n0\r\nAuthorization: late\r\n\r\n"
        client.sendall(served.head("POST", "/v1/predict", "Transfer-Encoding: chunked") + body)
        assert answer_of(client)[0] == 200
    assert not [name for name, _ in served.seen[-1]["headers"] if name == b"authorization"]


@pytest.mark.parametrize("lines", [
    ["Content-Length: 5", "Content-Length: 5"], ["Content-Length: 5", "Content-Length: 6"], ["Content-Length: 5, 5"],
    ["Content-Length: 5", "Transfer-Encoding: chunked"], ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    ["Content-Length: -5"],
    ["Transfer-Encoding: xchunked"], ["Content-Length : 5"],
])  # fmt: skip
def test_a_length_said_twice_is_refused(served, lines):
    before = len(served.seen)
    with served.connect() as client:
        client.sendall(served.head("POST", "/v1/predict", *lines) + b"hello")
        # h11 takes the same length said twice for one (RFC 9112, 6.3, allows both).
        twice = lines == ["Content-Length: 5"] * 2 or lines == ["Content-Length: 5, 5"]
        status = answer_of(client)[0]
    assert status in ((200, 400) if twice else (400, 501))
    assert len(served.seen) - before == (status == 200)


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
def test_what_is_not_http_is_refused(served, sent):
    with served.connect() as client:
        client.sendall(sent)
        status, headers, body = answer_of(client)
    assert status == 400
    assert json.loads(body)["error"]
    assert headers["x-content-type-options"] == "nosniff"


def test_wrong_names_other_sites_and_odd_methods_are_refused(served):
    assert served.ask(host="evil.example")[0] == 403
    assert served.ask(host=f"localhost:{served.port}")[0] == 200
    assert served.ask("POST", "/v1/predict", "Content-Length: 1", "Origin: http://evil.example", body=b"x")[0] == 403
    assert served.ask("TRACE", "/")[0] == 405
    assert served.ask("OPTIONS", "/v1/predict", "Origin: http://evil.example", "Access-Control-Request-Method: POST")[0] == 405
    assert served.ask("GET", "/page/../../etc/passwd")[0] == 404
    assert served.ask("GET", "/page/..%2f..%2fetc/passwd")[0] == 400
    assert served.ask("GET", f"http://127.0.0.1:{served.port}/page/../x")[0] in (400, 404)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["httptools", "h11"])
def test_the_token_is_asked_for_and_never_logged(protocol, caplog):
    caplog.set_level(logging.INFO)
    with Served(protocol, replace(Limits.of(CONFIG), token=TOKEN)) as served:
        assert served.ask("GET", "/v1/models")[0] == 401
        assert served.ask("GET", "/v1/models", "Authorization: Bearer wrong")[0] == 401
        assert served.ask("GET", "/v1/models", f"Authorization: Bearer {TOKEN}")[0] == 200
        status, headers, _ = served.ask("GET", f"/?token={TOKEN}")
        assert (status, headers["location"]) == (303, "/")
        assert served.ask("GET", "/v1/models", f"Cookie: {headers['set-cookie'].split(';')[0]}")[0] == 200
        assert served.ask("GET", f"/v1/models?token={TOKEN}")[0] == 401
    assert "GET / HTTP/1.1" in caplog.text
    assert "GET /v1/models HTTP/1.1" in caplog.text
    assert TOKEN not in caplog.text


def test_broken_requests_never_stop_the_server(served):
    """Requests with bytes changed, lost and doubled, each on a connection of its own; after them the server is as it was."""
    random_bytes = random.Random(0)
    whole = served.head("POST", "/v1/predict?model=a", "Content-Type: multipart/form-data; boundary=line", "Transfer-Encoding: chunked")
    whole += b"5\r\nhello\r\n0\r\n\r\n"
    for _ in range(300):
        broken = bytearray(whole)
        for _ in range(random_bytes.randint(1, 6)):
            place = random_bytes.randrange(len(broken))
            broken[place : place + random_bytes.randint(0, 2)] = random_bytes.randbytes(random_bytes.randint(0, 3))
        with served.connect() as client:
            client.sendall(bytes(broken))
            client.shutdown(socket.SHUT_WR)
            client.settimeout(0.05)
            try:
                came = client.recv(65536)
            except (TimeoutError, ConnectionResetError):
                continue
        assert not came or 200 <= int(came.split(b" ")[1]) < 500
    assert served.ask()[0] == 200
