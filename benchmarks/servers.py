"""Servers that are measured: child processes on cores of their own, and the load that another process on another core puts on them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import HERE, PEERS, proportional_bytes, tree

START_SECONDS = 180.0
# How often memory is looked at.
LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class Cores:
    """The server has all but the last, on which the load runs."""

    server: frozenset[int]
    load: int

    @classmethod
    def here(cls) -> Cores:
        *others, last = sorted(os.sched_getaffinity(0))
        if not others:
            sys.exit("Server and load need a core each, and there is only one.")
        return cls(frozenset(others), last)


@dataclass(frozen=True)
class Running:
    """A server that answers; ``said`` is the file with its stderr."""

    process: subprocess.Popen[bytes]
    address: str
    path: str
    field: str
    said: Path

    @property
    def memory(self) -> int:
        """Bytes of it and its children now, shared pages counted once."""
        return sum(proportional_bytes(pid) for pid in tree(self.process.pid))


@contextmanager
def running(words: Sequence[str | Path], cores: Cores, said: Path, *, port: int, path: str, field: str, ready: str) -> Iterator[Running]:
    """Start a server, wait until it answers, and end it and all that it started."""

    def settle() -> None:
        os.sched_setaffinity(0, cores.server)

    with said.open("wb") as errors:
        process = subprocess.Popen([str(word) for word in words], stdout=errors, stderr=errors, preexec_fn=settle, start_new_session=True)
        try:
            _wait_until_ready(process, f"http://127.0.0.1:{port}{ready}", said)
            yield Running(process, f"127.0.0.1:{port}", path, field, said)
        finally:
            for kind, seconds in ((signal.SIGTERM, 20), (signal.SIGKILL, 20)):
                try:
                    os.killpg(process.pid, kind)
                    process.wait(seconds)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue


def _wait_until_ready(process: subprocess.Popen[bytes], address: str, said: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=2)
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"A server did not start:\n{said.read_text()[-3000:]}")


def sightline(bundle: Path, cores: Cores, said: Path, *flags: str) -> Any:
    """``sightline serve`` as it is installed, with its defaults."""
    port = free_port()
    words = [sys.executable, "-m", "sightline.cli", "serve", bundle, "--port", str(port), *flags]
    return running(words, cores, said, port=port, path="/v1/predict", field="files", ready="/readyz")


def peer(script: str, data: Path, cores: Cores, said: Path, *flags: str, ready: str) -> Any:
    """A script of ``benchmarks/peers``."""
    port = free_port()
    words = [PEERS / "bin" / "python", HERE / "peers" / script, data, "--port", str(port), *flags]
    return running(words, cores, said, port=port, path="/predict", field="file", ready=ready)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@dataclass(frozen=True)
class Load:
    """Requests that another process sends."""

    process: subprocess.Popen[str]

    @property
    def is_over(self) -> bool:
        return self.process.poll() is not None

    def told(self) -> dict[str, Any]:
        """What came of the requests, when the last is answered."""
        out, _ = self.process.communicate()
        if self.process.returncode:
            sys.exit("The load failed.")
        return dict(json.loads(out))


def load(server: Running, images: Path, cores: Cores, **flags: float) -> Load:
    """Put a load on a server, by the flags of ``load.py``."""
    given = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    words = [sys.executable, HERE / "load.py", server.address, images, "--core", cores.load, "--path", server.path, "--field", server.field]
    return Load(subprocess.Popen([str(word) for word in [*words, *given]], stdout=subprocess.PIPE, text=True))


class MostMemory(threading.Thread):
    """Looks at a server's memory until it is told to stop; use it in a ``with``."""

    def __init__(self, server: Running) -> None:
        super().__init__(daemon=True)
        self.server, self.bytes = server, 0
        self._over = threading.Event()

    def __enter__(self) -> MostMemory:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self.bytes = max(self.bytes, self.server.memory)
