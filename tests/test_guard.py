"""The guard before the server's routes, through raw ASGI scopes: what is let through, what is refused, what nobody thought of."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guarded import HOST, LOCKED, OPEN, PATIENT, TOKEN, ask, post
from sightline.errors import ConfigError
from sightline.serving.guard import guarded
from sightline.serving.hosts import Hosts, is_loopback
from sightline.serving.token import cookie_name, digest, page_address, settled_token


def test_a_plain_request_is_let_through_and_its_answer_is_locked_down():
    reply = ask()
    assert (reply.status, reply.body) == (200, b"done")
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["cross-origin-resource-policy"] == "same-origin"
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]


def test_a_route_may_set_its_own_policy_but_not_open_itself_to_other_sites():
    own = [(b"Content-Security-Policy", b"default-src 'self'"), (b"Access-Control-Allow-Origin", b"*"), (b"cache-control", b"max-age=60")]
    reply = ask(answer=own)
    assert reply.headers["content-security-policy"] == "default-src 'self'"
    assert reply.headers["cache-control"] == "max-age=60"
    assert not [name for name in reply.headers if name.startswith("access-control")]
    assert [name for name, _ in reply.messages[0]["headers"]].count(b"content-security-policy") == 1


@pytest.mark.parametrize("name", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST:8000", "[::1]:8000", "[0:0:0:0:0:0:0:1]:8000"])
def test_names_of_this_machine_are_answered_to(name):
    assert ask(headers=[("host", name)]).status == 200


@pytest.mark.parametrize(
    "name", ["evil.example:8000", "127.0.0.1.evil.example:8000", "localhost", "localhost:80", "localhost.:8000", "127.0.0.1:8001"]
)
def test_a_name_that_was_pointed_here_is_refused(name):
    """DNS rebinding: the page's name leads to 127.0.0.1 by now, but it is still the name in Host."""
    reply = ask(headers=[("host", name)])
    assert reply.status == 403
    assert "--allow-host" in reply.error
    assert not reply.seen


@pytest.mark.parametrize(
    "hosts", [[], ["127.0.0.1:8000"] * 2, [""], ["a b"], ["user@127.0.0.1:8000"], ["127.0.0.1:8000/x"], ["[::1"], ["a:b:c"]]
)
def test_a_request_needs_one_host(hosts):
    reply = ask(headers=[("host", host) for host in hosts])
    assert reply.status == 400
    assert not reply.seen


def test_the_port_of_a_host_may_be_left_out_where_it_is_the_usual_one():
    assert ask(headers=[("host", "localhost")], server=("127.0.0.1", 80)).status == 200


def test_names_that_were_given_are_answered_to_with_their_port_or_any():
    limits = replace(OPEN, hosts=Hosts.of("0.0.0.0", "cam.example:443, Box.Local,[fe80::1]"))
    names = {"cam.example:443": 200, "cam.example": 403, "box.local": 200, "BOX.local:9000": 200, "[fe80::1]:1": 200, "other.local": 403}
    assert {name: ask(headers=[("host", name)], limits=limits).status for name in names} == names
    with pytest.raises(ConfigError, match="allow_host: 'a b'"):
        Hosts.of("127.0.0.1", "good.example,a b")


def test_bound_everywhere_the_address_that_was_reached_is_answered_to():
    limits = replace(OPEN, hosts=Hosts.of("0.0.0.0", None))
    for server, name, status in [("192.168.1.5", "192.168.1.5:8000", 200), ("::ffff:192.168.1.5", "192.168.1.5:8000", 200),
                                 ("192.168.1.5", "192.168.1.6:8000", 403), ("fe80::2", "[FE80::2]:8000", 200)]:  # fmt: skip
        assert ask(headers=[("host", name)], server=(server, 8000), limits=limits).status == status


def test_the_bound_address_is_answered_to():
    limits = replace(OPEN, hosts=Hosts.of("Camera-Box", None))
    assert ask(headers=[("host", "camera-box:8000")], limits=limits).status == 200


@pytest.mark.parametrize("sent", [
    {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:3000"}, {"origin": "http://127.0.0.1"},
    {"origin": "file://127.0.0.1:8000"}, {"origin": "http://127.0.0.1:8000.evil.example"}, {"origin": ""},
    {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
])  # fmt: skip
def test_a_page_of_another_site_can_post_nothing(sent):
    reply = post(*sent.items(), chunks=(b"x",))
    assert reply.status == 403
    assert not reply.seen
    assert not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize("sent", [{}, {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}])
def test_the_page_itself_and_programs_can(sent):
    assert post(*sent.items(), chunks=(b"x",)).status == 200


def test_a_proxy_that_speaks_tls_keeps_the_origin_the_same():
    limits = replace(OPEN, hosts=Hosts.of("127.0.0.1", "cam.example"))
    headers = [("host", "cam.example"), ("origin", "https://cam.example"), ("content-length", "0")]
    assert ask("POST", headers=headers, limits=limits).status == 200


def test_a_link_from_elsewhere_opens_a_page_but_a_frame_or_script_does_not():
    fetch = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert ask(headers=[HOST, *fetch.items()]).status == 200
    for changed in ({"sec-fetch-dest": "iframe"}, {"sec-fetch-mode": "no-cors"}, {"origin": "http://evil.example"}):
        assert ask(headers=[HOST, *(fetch | changed).items()]).status == 403


@pytest.mark.parametrize("sent", [
    {}, {"authorization": "Bearer wrong-token-of-length"}, {"authorization": "Bearer"}, {"authorization": f"Basic {TOKEN}"},
    {"authorization": TOKEN}, {"authorization": f"Bearer {TOKEN}x"}, {"authorization": f"Bearer {TOKEN[:-1]}"},
    {"cookie": f"sightline-8000={TOKEN}"}, {"cookie": f"sightline-8001={digest(TOKEN)}"}, {"authorization": "Bearer \xff"},
    {"authorization": "Bearer no", "cookie": f"sightline-8000={digest(TOKEN)}"},
])  # fmt: skip
def test_without_the_token_nothing_is_answered(sent):
    for method, path in [("GET", "/v1/models"), ("HEAD", "/metrics"), ("GET", "/docs"), ("GET", "/openapi.json"), ("POST", "/v1/predict"),
                         ("GET", "/v1/models/a/report"), ("GET", "/card/a"), ("GET", "/page"), ("GET", "/healthz/")]:  # fmt: skip
        reply = ask(method, path, [HOST, *sent.items()], limits=LOCKED)
        assert reply.status == 401
        assert reply.headers["www-authenticate"] == "Bearer"
        assert not reply.seen


@pytest.mark.parametrize("sent", [
    {"authorization": f"Bearer {TOKEN}"}, {"authorization": f"bearer  {TOKEN}"},
    {"cookie": f"other=1; {cookie_name(8000)}={digest(TOKEN)}; last=x"},
])  # fmt: skip
def test_with_the_token_it_is(sent):
    assert ask(headers=[HOST, *sent.items()], limits=LOCKED).status == 200


def test_two_tokens_are_none():
    assert ask(headers=[HOST, *[("authorization", f"Bearer {TOKEN}")] * 2], limits=LOCKED).status == 401


def test_probes_and_the_page_that_asks_for_the_token_need_none():
    assert {ask(path=path, limits=LOCKED).status for path in ("/healthz", "/readyz", "/", "/page/page.js")} == {200}
    assert ask(path="/page/../v1/models", limits=LOCKED).status == 404


def test_the_printed_address_is_opened_once_and_the_token_leaves_it():
    reply = ask(path="/", query_string=f"model=a&token={TOKEN}".encode(), limits=LOCKED)
    assert (reply.status, reply.headers["location"]) == (303, "/?model=a")
    assert reply.headers["cache-control"] == "no-store"
    cookie, *attributes = reply.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes)
    assert TOKEN not in reply.headers["set-cookie"]
    assert ask(headers=[HOST, ("cookie", cookie)], limits=LOCKED).status == 200
    assert "Secure" in ask(path="/", query_string=f"token={TOKEN}".encode(), limits=LOCKED, scheme="https").headers["set-cookie"]


@pytest.mark.parametrize("path", ["/", "/v1/models"])
@pytest.mark.parametrize("query", [f"token={TOKEN}", "token=wrong", f"a=1&token={TOKEN}&token=x", "%74oken=" + TOKEN])
def test_a_token_in_an_address_is_gone_before_anything_can_log_it(path, query):
    for limits in (OPEN, LOCKED):
        reply = ask(path=path, query_string=query.encode(), limits=limits)
        assert b"token" not in reply.scope["query_string"]
        assert all(b"token" not in scope["query_string"] for scope in reply.seen)
        assert TOKEN.encode() not in reply.body


def test_a_token_in_an_address_opens_nothing_but_the_page():
    assert ask(path="/v1/models", query_string=f"token={TOKEN}".encode(), limits=LOCKED).status == 401
    assert ask("POST", "/", [HOST, ("content-length", "0")], query_string=f"token={TOKEN}".encode(), limits=LOCKED).status == 401
    assert ask(path="/", query_string=b"token=wrong", limits=LOCKED).status == 401


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "CONNECT", "PUT", "DELETE", "PATCH", "get", "X" * 50])
def test_other_methods_are_none(method):
    reply = ask(method, headers=[HOST, ("origin", "http://127.0.0.1:8000"), ("access-control-request-method", "POST")])
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD, POST")
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_a_head_is_a_reading_without_its_body():
    reply = ask("HEAD", answer=[(b"content-length", b"4")])
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "4")
    assert reply.seen[0]["method"] == "GET"
    assert reply.scope["method"] == "HEAD"
    assert ask("HEAD", headers=[("host", "evil.example")]).body == b""


@pytest.mark.parametrize(("path", "raw", "status"), [
    ("/page/../../etc/passwd", None, 404), ("/page/./a", None, 404), ("/..", None, 404), ("/page//a", None, 404),
    ("//evil.example/", None, 404),
    ("/page/../x", b"/page/%2e%2e/x", 404), ("/page/../x", b"/page/..%2fx", 400), ("/a\\b", b"/a%5Cb", 400), ("/a\\b", None, 400),
    ("/a\x00b", b"/a%00b", 400), ("/a\nb", b"/a%0Ab", 400), ("/a%2fb", b"/a%252fb", 200), ("/a\ufffdb", b"/a%FFb", 400),
    ("/a%b", b"/a%b", 400),
    ("*", None, 400), ("http://127.0.0.1:8000/", None, 400), ("", None, 400), ("/" + "a" * 2000, None, 400),
    ("/v1/models/häuser/report", b"/v1/models/h%C3%A4user/report", 200), ("/page/", None, 200),
])  # fmt: skip
def test_odd_paths_lead_nowhere(path, raw, status):
    reply = ask(path=path, raw_path=path.encode() if raw is None else raw)
    assert reply.status == status
    assert bool(reply.seen) == (status == 200)


def test_what_comes_behind_the_body_changes_no_header_that_was_judged():
    """Servers put trailers behind the headers they have already handed on."""
    reply = ask()
    reply.scope["headers"].append((b"authorization", b"late"))
    assert (b"authorization", b"late") not in reply.seen[0]["headers"]


def test_an_application_that_fails_is_answered_for(caplog):
    async def application(scope, receive, send):
        raise ValueError("a fault")

    messages = []

    async def send(message):
        messages.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "server": ("127.0.0.1", 8000), "headers": [(b"host", b"127.0.0.1:8000")]}
    asyncio.run(guarded(application, OPEN)(scope, None, send))
    assert messages[0]["status"] == 500
    assert b"a fault" not in messages[1]["body"]
    assert "a fault" in caplog.text


def test_starting_and_stopping_pass_and_sockets_do_not():
    kinds, sent = [], []

    async def application(scope, receive, send):
        kinds.append(scope["type"])

    async def send(message):
        sent.append(message)

    guard = guarded(application, OPEN)
    asyncio.run(guard({"type": "lifespan"}, None, send))
    asyncio.run(guard({"type": "websocket", "headers": []}, None, send))
    assert kinds == ["lifespan"]
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_tokens_are_given_or_made_where_others_can_reach_the_server():
    assert settled_token("127.0.0.1", None, {}) is None
    assert settled_token("127.0.0.1", TOKEN, {}) == TOKEN
    assert settled_token("127.0.0.1", None, {"SIGHTLINE_TOKEN": TOKEN}) == TOKEN
    made = {settled_token(host, None, {}) for host in ("0.0.0.0", "::", "", "192.168.1.5", "camera-box")}
    assert len(made) == 5
    assert all(len(token) >= 32 for token in made)
    for token, environment, source in [("short", {}, "--token"), ("", {}, "--token"), ("a" * 16 + "\n", {}, "--token"),
                                       (None, {"SIGHTLINE_TOKEN": "short"}, "SIGHTLINE_TOKEN")]:  # fmt: skip
        with pytest.raises(ConfigError, match=source):
            settled_token("0.0.0.0", token, environment)


def test_addresses_of_this_machine_are_known():
    own, others = ("127.0.0.1", "127.3.2.1", "::1", "LOCALHOST"), ("0.0.0.0", "::", "", "192.168.1.5", "a.example")
    assert [host for host in (*own, *others) if is_loopback(host)] == list(own)
    assert page_address("0.0.0.0", 8000, "a+b" * 6).startswith("http://127.0.0.1:8000/?token=a%2Bb")
    assert page_address("::", 1, None) == "http://[::1]:1/"


NAMES = st.sampled_from(["host", "origin", "sec-fetch-site", "sec-fetch-mode", "cookie", "authorization", "content-length",
                         "transfer-encoding",
                         "content-type", "content-encoding", "expect", "connection", "x"])  # fmt: skip
VALUES = st.one_of(
    st.text(st.characters(max_codepoint=255), max_size=30),
    st.sampled_from(["127.0.0.1:8000", "5", "chunked", "cross-site", "http://127.0.0.1:8000", "Bearer x",
                     "multipart/form-data; boundary=line",
                     "[::1]",
                     f"Bearer {TOKEN}", "[", "]:", "http://[", "multipart/form-data; boundary=\xe9"]),
)  # fmt: skip


@given(
    headers=st.lists(st.tuples(NAMES, VALUES), max_size=8),
    given_host=st.booleans(),
    method=st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "\xff", ""]),
    path=st.text(max_size=12).map("/".__add__),
    query=st.binary(max_size=30),
    chunks=st.lists(st.binary(max_size=400), min_size=1, max_size=5),
    limits=st.sampled_from([OPEN, LOCKED]),
)
@settings(PATIENT, max_examples=300)
def test_whatever_is_sent_is_answered_once_and_the_guard_never_fails(headers, given_host, method, path, query, chunks, limits):
    headers = [HOST, *headers] if given_host else headers
    reply = ask(method, path, headers, chunks=tuple(chunks), limits=limits, query_string=query)
    starts = [message for message in reply.messages if message["type"] == "http.response.start"]
    assert len(starts) == 1
    assert reply.messages[-1]["more_body"] is False
    assert reply.status in (200, 400, 401, 403, 404, 405, 413, 415)
    assert (reply.headers["x-content-type-options"], reply.headers["x-frame-options"]) == ("nosniff", "DENY")
    if limits is LOCKED and ("authorization", f"Bearer {TOKEN}") not in headers:
        assert not [scope for scope in reply.seen if scope["path"] != "/"]
    if [name for name, _ in headers].count("host") != 1:
        assert not reply.seen
