"""Nothing is sent anywhere: the real commands, in child processes, with every connection written down by a shim under libc.

The libraries mute themselves where ``CI`` is set, so it is taken out of the environment; and they connect from C++ as well as
from Python, so Python's sockets are not what is watched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sightline.engines.adapters import version_of

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(const char *what, const char *detail) {
    int file = open(getenv("CONNECTIONS"), O_WRONLY | O_CREAT | O_APPEND, 0644);
    char line[512]; /* written in one piece, as several processes write */
    snprintf(line, sizeof line, "%s %s\n", what, detail);
    write(file, line, strlen(line));
    close(file);
}

int connect(int socket, const struct sockaddr *address, socklen_t length) {
    int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    if (address->sa_family != AF_UNIX) note("connect", "");
    return real(socket, address, length);
}

ssize_t sendto(int socket, const void *data, size_t size, int flags, const struct sockaddr *address, socklen_t length) {
    ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "sendto");
    if (address && (address->sa_family == AF_INET || address->sa_family == AF_INET6)) note("sendto", "");
    return real(socket, data, size, flags, address, length);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
    note("getaddrinfo", node ? node : "");
    return real(node, service, hints, found);
}
"""


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Runs a command under the shim and returns what it connected to."""
    if sys.platform != "linux" or not shutil.which("gcc"):
        pytest.skip("needs Linux and gcc to build the shim")
    folder = tmp_path_factory.mktemp("shim")
    source, library = folder / "shim.c", folder / "shim.so"
    source.write_text(SHIM)
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-o", library, source, "-ldl"], check=True)

    def run(*words: str | Path) -> list[str]:
        log = folder / "connections"
        log.unlink(missing_ok=True)
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("CI", "PYTEST_CURRENT_TEST", "ORT_DISABLE_TELEMETRY") and not name.startswith("MLFLOW_")
        }
        environment |= {"LD_PRELOAD": str(library), "CONNECTIONS": str(log), "HOME": str(folder)}
        done = subprocess.run([sys.executable, *map(str, words)], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return log.read_text().splitlines() if log.exists() else []

    return run


def test_the_shim_sees_a_connection(watched):
    code = "import socket; s = socket.socket(); s.settimeout(1); print(s.connect_ex(('127.0.0.1', 9)))"
    assert any(line.startswith("connect") for line in watched("-c", code))


def test_a_whole_cycle_connects_nowhere(watched, shapes, tmp_path):
    run = tmp_path / "run"
    cycle = [
        ("train", shapes, "--out", run, "--epochs", "1", "--backbone", "test_resnet"),
        ("evaluate", run / "model.sight", shapes),
        ("predict", run / "model.sight", shapes / "disc"),
        ("verify", run / "model.sight"),
        ("backbones", "test_resnet"),
        ("doctor",),
    ]
    found = {words[0]: watched("-m", "sightline.cli", *words) for words in cycle}
    assert found == {words[0]: [] for words in cycle}


def test_openvino_connects_nowhere(watched, run, shapes):
    """Its telemetry has no switch and sends when it is imported, so its import is blocked."""
    if version_of("openvino") is None:  # to import it here would be what is not to happen
        pytest.skip("OpenVINO is not installed: sightline[fast]")
    code = f"""
import sys, time
from sightline.cli import _exit_code
for engine in ("openvino", "auto"):
    assert _exit_code(["predict", {str(run.model)!r}, {str(shapes / "disc")!r}, "--engine", engine]) == 0
assert "openvino" in sys.modules
assert sys.modules["openvino_telemetry"] is None
time.sleep(2)  # a thread may be sending
"""
    assert watched("-c", code) == []


@pytest.mark.parametrize("log", ["tensorboard", "mlflow"])
def test_logging_connects_nowhere(watched, shapes, tmp_path, log):
    words = ("--out", tmp_path / "run", "--epochs", "1", "--backbone", "test_resnet", "--log", log)
    assert watched("-m", "sightline.cli", "train", shapes, *words) == []
    assert (tmp_path / "run" / {"tensorboard": "tensorboard", "mlflow": "mlruns"}[log]).is_dir()


def test_mlflow_gathers_no_figures_on_its_use(watched, run, tmp_path):
    """Its client for that is made at import and sends in bulk, so that a short command might end before it has connected."""
    shutil.copy(run.folder / "config.json", tmp_path)
    code = f"""
from pathlib import Path
from sightline.training.logs import MlflowLog
from sightline.training.run import Run
run = Run(Path({str(tmp_path)!r}))
MlflowLog(run, run.read_config()).close("FINISHED")
from mlflow.telemetry import get_telemetry_client
assert get_telemetry_client() is None
"""
    assert watched("-c", code) == []
