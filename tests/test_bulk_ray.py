"""Bulk work by Ray workers: a simulated cluster of three machines, drivers and workers that are killed, a machine that goes away."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import sightline
from conftest import write_shapes
from sightline.bulk import looking, ray_engine, ray_start
from sightline.bulk.orders import CRASHED
from sightline.bulk.parts import prediction_row
from sightline.data.limits import Limits
from sightline.data.look import look_at, look_at_all, looked_at
from sightline.data.reading import Reading
from sightline.records import ImageRef
from test_bulk import rows_of
from test_offline import SHIM

pytest.importorskip("pyarrow", reason="pyarrow is not installed: sightline[scale]")


@pytest.fixture(scope="module")
def cluster():
    """Three machines of a processor each, simulated on this one."""
    os.environ.update(ray_start.QUIET)
    ray = pytest.importorskip("ray", reason="Ray is not installed: sightline[scale]")
    from ray.cluster_utils import Cluster

    with ray_start.keeping_to_itself():
        found = Cluster()
        for _ in range(3):  # the first is the head
            ray_start.started(lambda: found.add_node(num_cpus=1, include_dashboard=False))
        ray.init(address=found.address, log_to_driver=False, logging_level="ERROR")
    yield found
    ray.shutdown()
    found.shutdown()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """240 small images and one that is none."""
    folder = write_shapes(tmp_path_factory.mktemp("many") / "many", per_class=80)
    (folder / "disc" / "bad.png").write_text("not an image")
    return folder


class Fragile(ray_engine.Hand):
    """Dies of images whose name says so, as if it had taken too much memory. (Of a fault it would die slowly: Ray writes a trace.)"""

    def write(self, chunk):
        return super().write(self.tasted(chunk))

    def rows(self, chunk):
        return super().rows(self.tasted(chunk))

    def tasted(self, chunk):
        if any("poison" in ref.path for ref in chunk.refs):
            os.kill(os.getpid(), signal.SIGKILL)
        return chunk


def fragile_look(batch):
    """Dies as ``Fragile`` does."""
    if any("poison" in ref.path for ref, *_ in batch):
        os.kill(os.getpid(), signal.SIGKILL)
    return look_at_all(batch)


def command_of(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


def parts_in(folder) -> int:
    return len(list(folder.glob("part-*")))


def test_an_image_that_kills_its_workers_costs_one_row(cluster, run, tmp_path, monkeypatch):
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(ray_engine, "Hand", Fragile)
    folder = write_shapes(tmp_path / "photos", per_class=2)
    os.rename(folder / "disc" / "000.png", folder / "disc" / "poison.png")
    done = sightline.predict(run.model, [folder], engine="ray", workers=2, chunk=3, precision="fp32", out=tmp_path / "found")
    rows = rows_of(tmp_path / "found")
    poison = str(folder / "disc" / "poison.png")
    assert (done.images, done.refused, done.crashed) == (6, 1, (poison,))
    assert {key: row["error"] for key, row in rows.items() if row["error"]} == {poison: CRASHED}
    model = sightline.Model.open(run.model, precision="fp32")
    for key in rows.keys() - {poison}:
        assert rows[key]["label"] == model.predict(key).label


def held(at_work, gone):
    """A worker that says it is at work and goes on only when a machine is gone."""

    class Held(ray_engine.Hand):
        def write(self, chunk):
            Path(at_work, str(os.getpid())).touch()
            while not gone.exists():
                time.sleep(0.02)
            return super().write(chunk)

    return Held


def test_killed_twice_and_bereft_of_a_machine_it_finishes_with_each_image_once(cluster, run, images, tmp_path, monkeypatch, capsys):
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    out = tmp_path / "found"
    words = [sys.executable, "-m", "sightline.cli", "predict", run.model, images, "--engine", "ray", "--address", cluster.address]
    words += ["--workers", "3", "--chunk", "3", "--precision", "fp32", "--out", out]
    for at_least in (5, 15):
        # The cluster speaks over the loopback interface, as Ray does where Sightline starts it.
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ, ray_start.CLUSTER: "0"}) as process:
            while parts_in(out) < at_least and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            said = process.stderr.read()
        assert process.returncode == -signal.SIGKILL, said
    before = parts_in(out)
    assert before < 81

    at_work = tmp_path / "at_work"
    at_work.mkdir()
    monkeypatch.setattr(ray_engine, "Hand", held(at_work, gone := tmp_path / "gone"))

    def lose():
        while len(list(at_work.iterdir())) < 3:
            time.sleep(0.01)
        cluster.remove_node(next(node for node in cluster.worker_nodes), allow_graceful=False)
        gone.touch()

    loser = threading.Thread(target=lose)
    loser.start()
    done = sightline.predict(run.model, [images], engine="ray", workers=3, chunk=3, precision="fp32", out=out, top=5)
    loser.join()
    assert "A worker died" in capsys.readouterr().err
    assert (done.images, done.refused, done.done + done.before) == (241, 1, 241)
    assert done.before >= 3 * (before - 1)
    rows = rows_of(out)
    assert sorted(rows) == sorted(str(path) for path in images.rglob("*.png"))
    names = sorted(rows)[:20]
    for key, found in zip(names, sightline.Model.open(run.model, many=True, precision="fp32").predict(list(names)), strict=True):
        assert rows[key]["label"] == prediction_row(ImageRef(key), found, 5)["label"]


def test_images_are_looked_at_over_ray_as_they_are_here(cluster, images, tmp_path, monkeypatch):
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(looking, "look_at_all", fragile_look)
    paths = sorted(images.rglob("*.png"))[60:100]
    paths.insert(20, tmp_path / "poison.png")
    jobs = [(ImageRef(str(path)), 32, Limits(), "", Reading()) for path in paths]
    with looking.looking_over_ray(None, 2) as workers:
        found = list(looked_at(jobs, workers))
    assert found.pop(20).error == "the image decoder crashed on it"
    expected = [look_at(*job) for job in jobs if "poison" not in job[0].path]
    assert [look.sha256 for look in found] == [look.sha256 for look in expected]
    assert all(np.array_equal(ours.pixels, theirs.pixels) for ours, theirs in zip(found, expected, strict=True))
    assert [look.error for look in found] == [look.error for look in expected]
    assert sum(bool(look.error) for look in found) == ("bad.png" in {path.name for path in paths})


def test_ray_that_is_started_here_speaks_to_this_machine_only_and_prints_nothing(run, tmp_path):
    """By the shim of ``test_offline``, which also tells addresses; a worker is killed, of which Ray has much to say."""
    pytest.importorskip("ray", reason="Ray is not installed: sightline[scale]")
    if sys.platform != "linux" or not shutil.which("gcc"):
        pytest.skip("needs Linux and gcc to build the shim")
    folder = write_shapes(tmp_path / "photos", per_class=2)
    source, library, log = tmp_path / "shim.c", tmp_path / "shim.so", tmp_path / "connections"
    assert SILENT in SHIM
    source.write_text(SHIM.replace("#include <netdb.h>", "#include <netdb.h>\n#include <arpa/inet.h>").replace(SILENT, TELLING))
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-o", library, source, "-ldl"], check=True)
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "RAY_USAGE_STATS_ENABLED", "RAY_ADDRESS")}
    environment |= {"LD_PRELOAD": str(library), "CONNECTIONS": str(log)}
    words = [
        sys.executable,
        "-m",
        "sightline.cli",
        "embed",
        run.model,
        folder,
        "--engine",
        "ray",
        "--workers",
        "1",
        "--out",
        tmp_path / "e",
    ]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(rows_of(tmp_path / "e")) == 6
    spoken = set(log.read_text().splitlines())
    assert "connect 127.0.0.1" in spoken
    assert spoken <= {f"{what} {name}" for what in ("connect", "getaddrinfo") for name in ("127.0.0.1", "::1", "localhost", "0.0.0.0")}


SILENT = 'note("connect", "");'
TELLING = """{
        char text[INET6_ADDRSTRLEN] = "?";
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
        int mapped = address->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&six->sin6_addr);
        if (mapped) inet_ntop(AF_INET, six->sin6_addr.s6_addr + 12, text, sizeof text);
        else if (address->sa_family == AF_INET6) inet_ntop(AF_INET6, &six->sin6_addr, text, sizeof text);
        else inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, text, sizeof text);
        note("connect", text);
    }"""
