"""``sightline serve`` as a process, from outside and without good will: what a stranger, another site's page or a hostile image can do."""

from __future__ import annotations

import base64
import json
import socket
import struct
import subprocess
import sys
import zlib

import pytest

from served import GREEN, form, serving, write_colours
from test_deploy import health_check

TOKEN = "a-token-of-some-length"
GIGABYTE = 1 << 30


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("locked")


@pytest.fixture(scope="module")
def server(place):
    bundle = write_colours(place / "colours.sight")
    with serving(bundle, "--token", TOKEN, "--max-pixels", "1000000", "--max-files", "3", errors=place / "stderr.txt") as running:
        yield running


def ask(server, path="/v1/predict", body=None, **headers):
    """Status and answer of a request with the token, unless another is given."""
    status, text = server.ask(path, body, **({"authorization": f"Bearer {TOKEN}"} | headers))
    return status, json.loads(text)


def predict(server, *files, names=None, **headers):
    body, kind = form(files, names)
    return ask(server, body=body, content_type=kind, **headers)


def test_the_containers_health_check_finds_it_alive_without_a_token(server):
    _, flag, code = health_check()
    for port, expected in ((server.address.rsplit(":", 1)[1], 0), ("1", 1)):
        done = subprocess.run([sys.executable, flag, code.replace(":8000/", f":{port}/")], capture_output=True)
        assert done.returncode == expected


def images_computed(server):
    text = server.ask("/metrics", authorization=f"Bearer {TOKEN}")[1].decode()
    return [line for line in text.splitlines() if line.startswith("sightline_images_total")]


def test_with_the_token_it_answers(server):
    before = images_computed(server)
    status, told = predict(server, GREEN)
    assert status == 200
    assert images_computed(server) != before
    assert told["results"][0]["predictions"][0]["label"] == "green"


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/models/colours/card", "/v1/models/colours/report", "/metrics", "/docs", "/openapi.json", "/card/a"]
)
def test_without_the_token_nothing_of_the_models_is_told(server, path):
    status, told = ask(server, path, authorization="Bearer another-token")
    assert (status, list(told)) == (401, ["error"])


@pytest.mark.parametrize(("headers", "status"), [
    ({"authorization": "Bearer another-token"}, 401), ({"authorization": ""}, 401), ({"host": "evil.example"}, 403),
    ({"origin": "http://evil.example"}, 403), ({"origin": "null"}, 403), ({"sec_fetch_site": "cross-site"}, 403),
])  # fmt: skip
def test_a_request_of_a_stranger_or_another_sites_page_computes_nothing(server, headers, status):
    before = images_computed(server)
    answered, told = predict(server, GREEN, **headers)
    assert (answered, list(told)) == (status, ["error"])
    assert images_computed(server) == before


def test_a_gigabyte_is_refused_before_it_is_sent(server):
    port = int(server.address.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        head = f"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {GIGABYTE}\r\n\r\n"
        client.sendall(head.encode())
        answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_more_files_than_are_allowed_are_refused(server):
    assert predict(server, *[GREEN] * 4)[0] == 413
    images = [{"name": "a.png", "data": base64.b64encode(GREEN).decode()}] * 4
    assert ask(server, body=json.dumps({"images": images}).encode(), content_type="application/json")[0] == 413


def test_parts_with_large_heads_are_refused(server):
    body, kind = form([GREEN])
    for head in (b"X-A: " + b"a" * 10_000, b"\r\n".join([b"X-A: b"] * 2000)):
        status, told = ask(server, body=body.replace(b"Content-Type", head + b"\r\nContent-Type", 1), content_type=kind)
        assert (status, list(told)) == (400, ["error"])


def test_a_picture_of_many_pixels_is_refused_before_they_are_made(server):
    """A PNG of a few bytes that says it is 30,000 pixels wide and high: 2.7 GB as RGB. The image beside it is answered."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    status, told = predict(server, bomb, GREEN)
    assert status == 200
    assert "pixels" in told["results"][0]["error"]
    assert told["results"][1]["predictions"][0]["label"] == "green"


@pytest.mark.parametrize(
    "name", ["../../../../etc/passwd", "/etc/passwd", "C:\\\\windows\\\\win.ini", "a\x00b.png", "<script>alert(1)</script>.png"]
)
def test_a_name_is_text_and_never_a_path(server, name):
    """The answer is that of the bytes that were sent under the name; bytes that are no image are not looked for elsewhere."""
    images = [{"name": name, "data": base64.b64encode(data).decode()} for data in (GREEN, b"no image")]
    status, told = ask(server, body=json.dumps({"images": images}).encode(), content_type="application/json")
    assert status == 200
    assert [result["path"] for result in told["results"]] == [name, name]
    assert told["results"][0]["predictions"][0]["label"] == "green"
    assert "root:" not in json.dumps(told)
    assert "error" in told["results"][1]


def test_an_address_is_never_fetched(server):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/a.png"
        for entry in ({"url": address}, {"name": address, "data": address}, {"name": address, "data": ""}, address):
            status, _ = ask(server, body=json.dumps({"images": [entry]}).encode(), content_type="application/json")
            assert status in (200, 400)
        assert ask(server, f"/v1/predict?model={address}", form([GREEN])[0], content_type=form([GREEN])[1])[0] == 404
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize("path", ["/page/../index.html", "/page/..%2f..%2fapp.py", "/page/%2e%2e/app.py",
                                  "/v1/models/..%2fcolours/card", "//etc/passwd",
                                  "/page/app.py", "/v1/models/%2fetc%2fpasswd/card"])  # fmt: skip
def test_paths_lead_to_nothing_but_what_is_listed(server, path):
    status, told = ask(server, path)
    assert status in (400, 404)
    assert list(told) == ["error"]


def test_nothing_of_what_was_sent_is_logged(server, place):
    predict(server, GREEN, names=["a-name-nobody-needs-to-know.png"])
    server.ask(f"/?token={TOKEN}")
    server.ask("/v1/models?secret-question=1", authorization=f"Bearer {TOKEN}")
    logged = (place / "stderr.txt").read_text()
    assert "POST /v1/predict 200" in logged
    for secret in (TOKEN, "a-name-nobody", "secret-question"):
        assert secret not in logged
