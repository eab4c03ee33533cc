"""Bodies before the guard, through raw ASGI scopes: how long, how slow, in how many parts, and where one ends."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guarded import FORM, HOST, OPEN, PATIENT, ask, post
from sightline.serving.guard import guarded
from sightline.serving.parts import Parts, boundary_of


def test_too_long_a_body_is_refused_before_it_is_read():
    reply = ask("POST", headers=[HOST, ("content-length", "1001")], chunks=(b"x" * 1001,))
    assert (reply.status, reply.receives) == (413, 0)
    assert "--max-upload" in reply.error
    assert ask("POST", headers=[HOST, ("content-length", "1000")], chunks=(b"x" * 1000,)).read == b"x" * 1000


def test_too_long_a_body_in_chunks_is_refused_as_it_comes():
    reply = post(("transfer-encoding", "chunked"), chunks=(b"x" * 600, b"x" * 600, b"x" * 600))
    assert (reply.status, reply.receives, reply.headers["connection"]) == (413, 2, "close")
    assert len(reply.read) == 600


def test_bodies_under_way_have_room_for_so_much_together():
    """Two at once where there is room for one; when the first is done, there is room again."""
    statuses = []

    async def application(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await asyncio.sleep(0.02)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def one(guard):
        chunks = [b"x" * 300, b"x" * 300]

        async def receive():
            await asyncio.sleep(0)
            return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

        async def send(message):
            statuses.extend([message["status"]] if "status" in message else [])

        headers = [(b"host", b"127.0.0.1:8000"), (b"content-length", b"600")]
        await guard({"type": "http", "method": "POST", "path": "/", "server": ("127.0.0.1", 8000), "headers": headers}, receive, send)

    async def all_of_them():
        guard = guarded(application, replace(OPEN, room=1000))
        await asyncio.gather(one(guard), one(guard))
        await one(guard)

    asyncio.run(all_of_them())
    assert statuses == [503, 200, 200]


def test_an_application_that_answers_when_its_client_is_cut_off_is_not_heard():
    messages = []

    async def application(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.start", "status": 400, "headers": []})
        await send({"type": "http.response.body", "body": b"there was an error parsing the body"})

    async def receive():
        return {"type": "http.request", "body": b"x" * 600, "more_body": True}

    async def send(message):
        messages.append(message)

    headers = [(b"host", b"127.0.0.1:8000"), (b"transfer-encoding", b"chunked")]
    scope = {"type": "http", "method": "POST", "path": "/", "server": ("127.0.0.1", 8000), "headers": headers}
    asyncio.run(guarded(application, OPEN)(scope, receive, send))
    assert [message["status"] for message in messages if "status" in message] == [413]


@pytest.mark.parametrize("headers", [
    [("content-length", "5"), ("content-length", "5")], [("content-length", "5"), ("content-length", "6")],
    [("content-length", "5"), ("transfer-encoding", "chunked")], [("content-length", "-5")], [("content-length", "+5")],
    [("content-length", "5,5")], [("content-length", "")], [("content-length", "0x5")],
    [("content-length", "\xb2")],
    [("transfer-encoding", "gzip, chunked")], [("transfer-encoding", "identity")], [("transfer-encoding", "chunked")] * 2,
])  # fmt: skip
def test_contradictory_lengths_are_refused(headers):
    reply = ask("POST", headers=[HOST, *headers], chunks=(b"hello",))
    assert (reply.status, reply.receives, reply.headers["connection"]) == (400, 0, "close")


def test_a_body_that_drips_is_given_up():
    reply = ask("POST", headers=[HOST, ("content-length", "5")], chunks=(b"h", None), limits=replace(OPEN, seconds=0.05))
    assert (reply.status, reply.headers["connection"]) == (408, "close")


def test_waiting_for_a_client_to_go_is_not_timed():
    """Once a body is there, receive() says when the client has gone, however long that takes."""
    said = []

    async def application(scope, receive, send):
        said.extend([await receive(), await receive()])

    async def receive():
        await asyncio.sleep(0.05 * len(said) + 0.02 * bool(said))
        return messages.pop(0)

    messages = [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]
    scope = {"type": "http", "method": "GET", "path": "/", "server": ("127.0.0.1", 8000), "headers": [(b"host", b"127.0.0.1:8000")]}
    asyncio.run(guarded(application, replace(OPEN, seconds=0.01))(scope, receive, None))
    assert said[1] == {"type": "http.disconnect"}


def form(files, others=0, head=b""):
    """A multipart body of so many files and other fields."""
    part = b'--line\r\nContent-Disposition: form-data; name="%s"%s\r\n%s\r\n%s\r\n'
    parts = [part % (b"files", b'; filename="a.jpg"', head, b"pixels") for _ in range(files)]
    return b"".join([*parts, *[part % (b"other", b"", b"", b"1") for _ in range(others)], b"--line--\r\n"])


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize(("body", "status"), [
    (form(3), 200), (form(4), 413), (form(0, others=19), 200), (form(3, others=17), 400),
    (form(1, head=b"X-A: " + b"a" * 5000 + b"\r\n"), 400), (form(1, head=b"X-A: b\r\n" * 800), 400), (b"--line\r\n\r\n" * 3000, 400),
    (b"no boundary at all " * 500, 200), (form(3) + b"\r\n", 200), (form(3) + b"--line\r\n\r\n" * 100, 400),
])  # fmt: skip
def test_files_and_the_heads_of_parts_are_limited(body, status, size):
    chunks = tuple(body[start : start + size] for start in range(0, len(body), size))
    reply = post(FORM, chunks=chunks, limits=replace(OPEN, most_bytes=100_000))
    assert reply.status == status
    assert status != 200 or reply.read == body


@pytest.mark.parametrize(
    "line", ["----WebKitFormBoundary7MA4YWxkTrZu0gW", "----geckoformboundary4e9b1c", "------------------------d74496d66958873e"]
)
def test_the_boundaries_of_browsers_and_of_curl_are_taken(line):
    assert boundary_of(f"multipart/form-data; boundary={line}") == line.encode()


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=a; boundary=b",
                                  f"multipart/form-data; boundary={'a' * 71}", 'multipart/form-data; boundary="a\\"b"'])  # fmt: skip
def test_parts_need_one_boundary(kind):
    assert post(("content-type", kind), chunks=(b"x",)).status == 400


@pytest.mark.parametrize("boundary", [
    "----WebKitFormBoundaryIkiwq37AsJeiBxR1", "----geckoformboundary9a3e1f", "-----------------------------735323031",
    "------------------------d74496d66958873e", "1f0c25ab34e64b2a8e7c93d1f2a4b6c8", "=_Part_1",
])  # fmt: skip
@pytest.mark.parametrize(
    "form", ["multipart/form-data; boundary={}", 'multipart/form-data; boundary="{}"', "Multipart/Form-Data;Boundary={}; charset=utf-8"]
)
def test_the_boundaries_of_browsers_and_libraries_are_understood(boundary, form):
    assert boundary_of(form.format(boundary)) == boundary.encode()


KINDS = st.sampled_from(
    ["; ", ";", "boundary=", "Boundary=", 'boundary="', '"', "ab", " ", "'", "*0*=", "\\", "=", ",", "utf-8''", "x=", "\t", "Boundary"]
)
PIECES = st.sampled_from([b"--line", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"-", b"--", b"x", b" ", b"X-A: b", b"lin", b"\r\n--lin"])


@given(st.lists(KINDS, max_size=12).map(lambda pieces: "multipart/form-data; " + "".join(pieces)))
@example("multipart/form-data; boundary=ab").via("a usual one")
@PATIENT
def test_the_parser_behind_the_guard_reads_the_same_boundary(kind):
    """Parts are counted by the guard and parsed behind it: were the boundaries different, the limits would hold for nothing."""
    multipart = pytest.importorskip("python_multipart.multipart", reason="serving needs the extra 'serve'")
    boundary = boundary_of(kind)
    if isinstance(boundary, bytes):
        assert multipart.parse_options_header(kind)[1].get(b"boundary") in (None, boundary)
    else:
        assert boundary.status == 400


@given(st.lists(PIECES, max_size=40).map(lambda pieces: [b"--line\r\nX-A: b\r\n\r\n", *pieces]))
@PATIENT
def test_the_parser_behind_the_guard_sees_no_part_that_was_not_counted(pieces):
    multipart = pytest.importorskip("python_multipart.multipart", reason="serving needs the extra 'serve'")
    parts, heads = Parts(b"line", 1000), []
    parser = multipart.MultipartParser(b"line", {"on_headers_finished": lambda: heads.append(True)})
    with suppress(multipart.FormParserError):
        for piece in pieces:
            assert parts.problem(piece) is None
            parser.write(piece)
    assert len(heads) <= parts.parts


def test_compressed_bodies_and_bodies_of_readings_are_refused():
    assert post(("content-encoding", "gzip"), chunks=(b"x",)).status == 415
    assert ask(headers=[HOST, ("content-length", "1")], chunks=(b"x",)).status == 400
    assert ask(headers=[HOST, ("transfer-encoding", "chunked")], chunks=(b"x",)).status == 400
