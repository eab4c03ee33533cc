"""``sightline serve`` as a process: how it starts, what it refuses, and that stopping it or replacing a bundle loses nothing accepted."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from urllib.error import URLError

import pytest

from served import GREEN, RED, form, serving, write_colours
from sightline.cli import _exit_code
from sightline.errors import UsageError
from sightline.serving.names import check_libraries, names_of
from sightline.serving.run import _allow_connections


@pytest.fixture
def colours(tmp_path):
    return write_colours(tmp_path / "colours.sight")


@pytest.fixture
def errors(tmp_path):
    return tmp_path / "stderr.txt"


def refused(capsys, *words) -> str:
    assert _exit_code(["serve", *map(str, words)]) == 2
    *_, last = capsys.readouterr().err.strip().splitlines()
    assert last.startswith("sightline: ")
    return last


def test_it_says_where_it_is_serves_logs_and_stops(colours, errors):
    with serving(colours, errors=errors) as server:
        assert server.ready["models"] == ["colours"]
        assert server.ask("/readyz")[0] == 200
        status, told = server.predict(RED, GREEN)
        assert status == 200
        assert [entry["predictions"][0]["label"] for entry in told["results"]] == ["red", "green"]
        assert server.stopped() == 0
    lines = errors.read_text().splitlines()
    assert [line.split()[1:5] for line in lines] == [["GET", "/readyz", "200", "images=0"], ["POST", "/v1/predict", "200", "images=2"]]


def test_names_come_from_files_and_folders_and_are_distinct(tmp_path):
    paths = [tmp_path / "a" / "model.sight", tmp_path / "b.sight", tmp_path / "c" / "b.sight", tmp_path / "x" / "b" / "model.sight"]
    assert list(names_of(paths)) == ["a", "b", "b-2", "b-3"]


@pytest.mark.parametrize(("words", "says"), [
    (["--host", "192.0.2.1"], "not an address of this machine"),
    (["--host", "no such host"], "not an address of this machine"),
    (["--host", "127.0.0..1"], "not an address of this machine"),
    (["--port", "70000"], "port"),
    (["--token", "short"], "at least 16"),
    (["--wrokers", "2"], "--workers"),
])  # fmt: skip
def test_an_address_or_setting_that_cannot_be_is_refused_in_a_sentence(colours, capsys, words, says):
    assert says in refused(capsys, colours, *words)


@pytest.mark.parametrize(("allowed", "asked"), [(100_000, [65_536]), (24_576, [65_536, 10_240]), (300, [65_536, 10_240, 4_096])])
def test_a_system_that_allows_fewer_open_files_than_it_says_is_asked_for_fewer(monkeypatch, allowed, asked):
    resource = pytest.importorskip("resource", reason="needs POSIX")
    limits = []

    def set_limit(kind, given):
        limits.append(given[0])
        if given[0] > allowed:
            raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    _allow_connections()
    assert limits == asked


def test_a_port_that_is_taken_is_said(colours, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"--port {port}: is taken" in refused(capsys, colours, "--port", port)


def test_a_bundle_that_is_none_ends_it_before_it_serves(tmp_path, capsys):
    path = tmp_path / "model.sight"
    path.write_bytes(b"nothing")
    assert _exit_code(["serve", str(path), "--port", "0"]) == 4
    assert str(path) in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("fastapi", "uvicorn") else there(name))
    with pytest.raises(UsageError, match=r"needs fastapi, uvicorn, which are not installed: pip install 'sightline\[serve\]'"):
        check_libraries()


def test_where_others_can_reach_it_a_token_is_made_up_and_told_once(colours, errors):
    with serving(colours, "--host", "0.0.0.0", errors=errors) as server:
        token = errors.read_text().split("token ")[1].split(";")[0]
        assert len(token) >= 16
        address = f"http://127.0.0.1:{server.ready['address'].rsplit(':', 1)[1]}"
        server.ready["address"] = address
        assert server.ask("/v1/models")[0] == 401
        assert server.ask("/v1/models", Authorization=f"Bearer {token}")[0] == 200
        assert server.ask("/healthz")[0] == 200
        assert server.stopped() == 0
    assert errors.read_text().count(token) == errors.read_text().splitlines()[0].count(token)


def test_the_token_may_come_from_the_environment(colours, errors, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_TOKEN", "a-token-of-some-length")
    with serving(colours, errors=errors) as server:
        assert server.ask("/v1/models")[0] == 401
        assert server.ask("/v1/models", Authorization="Bearer a-token-of-some-length")[0] == 200
        assert server.stopped() == 0
    assert "a-token-of-some-length" not in errors.read_text()


def until(holds, server) -> None:
    """Wait for what has to happen; fail where the server ends before, or it takes half a minute."""
    for _ in range(600):
        if holds():
            return
        assert server.process.poll() is None
        time.sleep(0.05)
    pytest.fail("it did not happen")


class Load:
    """Clients that send one request after the other, each over one connection for as long as it is kept.

    insistent  they go on after 503, which is what they are told while the server stops
    """

    def __init__(self, server, clients: int, *, insistent: bool = False) -> None:
        self.insistent = insistent
        self.host = server.address.removeprefix("http://")
        self.body, kind = form([RED])
        self.headers = {"content-type": kind}
        self.statuses: list[int] = []
        self.models: set[str] = set()
        self.unanswered = 0
        self.over = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self._clients = [self._pool.submit(self._send) for _ in range(clients)]

    def _send(self) -> None:
        line = HTTPConnection(self.host, timeout=30)
        while not self.over.is_set():
            try:
                line.request("POST", "/v1/predict", self.body, self.headers)
                answer = line.getresponse()
                told = json.loads(answer.read())
            except ConnectionRefusedError:
                return  # the server has stopped, and heard nothing of this one
            except OSError:
                self.unanswered += 1
                return
            self.statuses.append(answer.status)
            self.models.add(told.get("sha256", ""))
            if answer.status == 503 and not self.insistent:
                return

    def until(self, count: int) -> None:
        wanted = len(self.statuses) + count
        while len(self.statuses) < wanted and any(not client.done() for client in self._clients):
            time.sleep(0.01)

    def end(self) -> None:
        self.over.set()
        for client in self._clients:
            client.result()
        self._pool.shutdown()


def test_on_sigterm_under_load_all_that_was_accepted_is_answered(colours, errors):
    with serving(colours, errors=errors) as server:
        load = Load(server, 8)
        load.until(200)
        assert server.stopped() == 0
        load.end()
    assert load.unanswered == 0
    assert set(load.statuses) <= {200, 503}
    logged = sum(" POST /v1/predict 200 " in line for line in errors.read_text().splitlines())
    assert logged == load.statuses.count(200)


def test_a_stopping_server_answers_all_who_connect_until_it_takes_nobody_any_more(colours, errors):
    with serving(colours, errors=errors) as server:
        load = Load(server, 32, insistent=True)
        load.until(100)
        assert server.stopped() == 0
        load.end()
    assert load.unanswered == 0
    assert load.statuses.count(503) > 32, "who was declined asked again"


def test_bundles_replaced_under_load_fail_no_request(colours, errors, tmp_path):
    with serving(colours, errors=errors) as server:
        load = Load(server, 4)
        load.until(50)
        for number in (1, 2):
            write_colours(tmp_path / "new", sharpness=8.0 + number).replace(colours)
            until(lambda wanted=number + 1: len(load.models) == wanted, server)
        (tmp_path / "new").write_bytes(b"broken")
        (tmp_path / "new").replace(colours)
        until(lambda: "served on" in errors.read_text(), server)
        load.until(50)
        load.end()
        assert server.stopped() == 0
    assert load.unanswered == 0
    assert set(load.statuses) == {200}
    assert len(load.models) == 3


def test_several_workers_share_the_port_and_their_figures_and_one_that_dies_is_replaced(colours, errors):
    with serving(colours, "--workers", "2", errors=errors) as server:
        workers = children(server.process.pid)
        assert len(workers) >= 2
        with ThreadPoolExecutor(8) as pool:
            assert {status for status, _ in pool.map(lambda _: server.predict(RED), range(40))} == {200}
        figures = server.ask("/metrics")[1].decode()
        assert 'sightline_requests_total{path="/v1/predict",status="200"} 40.0' in figures
        os.kill(workers[-1], signal.SIGKILL)
        until(lambda: len(children(server.process.pid)) == len(workers) and workers[-1] not in children(server.process.pid), server)
        assert "another is started" in errors.read_text()
        until(lambda: answers(server), server)
        assert server.stopped() == 0


def test_a_replacement_that_cannot_begin_is_tried_again_while_another_serves(colours, errors, tmp_path):
    with serving(colours, "--workers", "2", "--no-watch", errors=errors) as server:
        workers = children(server.process.pid)
        colours.rename(tmp_path / "whole")
        colours.write_bytes(b"broken")
        os.kill(workers[-1], signal.SIGKILL)
        until(lambda: "it is tried again in 2 s." in errors.read_text(), server)
        assert errors.read_text().count("another is started") == 1
        until(lambda: answers(server), server)
        (tmp_path / "whole").replace(colours)
        until(lambda: len(children(server.process.pid)) == len(workers), server)
        assert server.stopped() == 0


def test_a_second_signal_ends_workers_at_once(colours, errors):
    with serving(colours, "--workers", "2", errors=errors) as server:
        host, port = server.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            head = f"POST /v1/predict HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
            client.sendall(head.encode())
            until(lambda: b"sightline_queue_images 1.0" in server.ask("/metrics")[1], server)
            server.process.terminate()
            with pytest.raises(subprocess.TimeoutExpired):
                server.process.wait(2)
            assert server.stopped() == 0, "well before the request that is under way is given up"


def answers(server) -> bool:
    try:
        return server.predict(RED)[0] == 200
    except URLError:  # the connection was given to the worker that died
        return False


def children(pid: int) -> list[int]:
    """The processes of a server's workers, without multiprocessing's own."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            found = [int(child) for child in file.read().split()]
        return [child for child in found if b"spawn_main" in open(f"/proc/{child}/cmdline", "rb").read()]
    except FileNotFoundError:
        pytest.skip("needs Linux's /proc to see the processes")
