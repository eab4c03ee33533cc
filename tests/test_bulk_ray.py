"""Bulk work by Ray workers: a simulated cluster of three machines, drivers and workers that are killed, a machine that goes away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import sightline
from conftest import write_shapes
from sightline.bulk import ray_engine
from sightline.bulk.orders import CRASHED
from sightline.bulk.parts import prediction_row
from sightline.errors import ImageError
from sightline.records import ImageRef
from test_bulk import rows_of

pytest.importorskip("pyarrow", reason="pyarrow is not installed: sightline[scale]")


@pytest.fixture(scope="module")
def cluster():
    """Three machines of a processor each, simulated on this one."""
    os.environ.update(ray_engine.QUIET)
    ray = pytest.importorskip("ray", reason="Ray is not installed: sightline[scale]")
    from ray.cluster_utils import Cluster

    with ray_engine.keeping_to_itself():
        found = Cluster()
        for _ in range(3):  # the first is the head
            ray_engine.started(lambda: found.add_node(num_cpus=1, include_dashboard=False))
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
    """Dies of images whose name says so, as a fault in a decoder would have it die."""

    def write(self, chunk):
        return super().write(self.tasted(chunk))

    def rows(self, chunk):
        return super().rows(self.tasted(chunk))

    def tasted(self, chunk):
        if any("poison" in ref.path for ref in chunk.refs):
            os.kill(os.getpid(), signal.SIGSEGV)
        return chunk


def parts_in(folder) -> int:
    return len(list(folder.glob("part-*")))


def test_an_image_that_kills_its_workers_costs_one_row(cluster, run, tmp_path, monkeypatch):
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(ray_engine, "Hand", Fragile)
    folder = write_shapes(tmp_path / "photos", per_class=2)
    os.rename(folder / "disc" / "000.png", folder / "disc" / "poison.png")
    done = sightline.predict(run.model, [folder], engine="ray", workers=2, chunk=3, out=tmp_path / "found")
    rows = rows_of(tmp_path / "found")
    poison = str(folder / "disc" / "poison.png")
    assert (done.images, done.refused, done.crashed) == (6, 1, (poison,))
    assert {key: row["error"] for key, row in rows.items() if row["error"]} == {poison: CRASHED}
    model = sightline.Model.open(run.model)
    for key in rows.keys() - {poison}:
        assert rows[key]["label"] == model.predict(key).label


def test_killed_twice_and_bereft_of_a_machine_it_finishes_with_each_image_once(cluster, run, images, tmp_path):
    out = tmp_path / "found"
    words = [sys.executable, "-m", "sightline.cli", "predict", run.model, images, "--engine", "ray", "--address", cluster.address]
    words += ["--workers", "3", "--chunk", "3", "--out", out]
    for at_least in (5, 15):
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
            while parts_in(out) < at_least and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            said = process.stderr.read()
        assert process.returncode == -signal.SIGKILL, said
    before = parts_in(out)
    assert before < 81

    def lose():
        while parts_in(out) < before + 5:
            time.sleep(0.01)
        cluster.remove_node(next(node for node in cluster.worker_nodes), allow_graceful=False)

    loser = threading.Thread(target=lose)
    loser.start()
    done = sightline.predict(run.model, [images], engine="ray", workers=3, chunk=3, out=out, top=5)
    loser.join()
    assert (done.images, done.refused, done.done + done.before) == (241, 1, 241)
    assert done.before >= 3 * before
    rows = rows_of(out)
    assert sorted(rows) == sorted(str(path) for path in images.rglob("*.png"))
    names = sorted(rows)[:20]
    for key, found in zip(names, sightline.Model.open(run.model, many=True).predict(list(names)), strict=True):
        assert rows[key]["label"] == prediction_row(ImageRef(key), found, 5)["label"] or isinstance(found, ImageError)
