"""Ray, started on this machine or found elsewhere, so that it sends nothing and prints nothing.

Ray is imported here, and its errors where they are met.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sightline import console
from sightline.errors import ResourceError, UsageError
from sightline.processor import processors

# Set before Ray is imported: nothing is sent anywhere, and no accelerator is hidden from anybody.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
# With this at 0 Ray speaks over the loopback interface only. Its name is of other systems, where that is the default.
CLUSTER = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
# Bytes of Ray's store of objects beside what it is to hold; the least that Ray takes is 75 MB.
STORE_BYTES = 100_000_000
STARTS = 3
KNOCK_SECONDS = 10.0


@contextmanager
def connected(address: str | None, store_bytes: int) -> Iterator[Any]:
    """Ray, started here and ended afterwards, or connected to a cluster; one that the caller has started already is used as it is.

    store_bytes  what is to lie in Ray's store of objects at once, where it is started here

    Raises UsageError where Ray is not installed or the cluster does not answer, ResourceError where Ray cannot be started.
    """
    ray = load_ray()
    if ray.is_initialized():
        yield ray
        return
    ended_by = signal.getsignal(signal.SIGTERM)
    with _saying_nothing():
        try:
            if address is None:
                with keeping_to_itself():
                    started(lambda: ray.init(address="local", num_cpus=processors(), include_dashboard=False, log_to_driver=False,
                                             logging_level="ERROR", object_store_memory=STORE_BYTES + store_bytes))  # fmt: skip
            else:
                _knock(address)
                ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # Ray raises Exception itself where it cannot start
            if address is None:
                raise ResourceError(f"--engine ray: Ray could not be started here ({first_line(error)}).") from error
            raise UsageError(f"--address {address}: no Ray cluster answers there ({first_line(error)}).") from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ended_by)  # Ray puts its own there, which would hide that we were interrupted
        try:
            yield ray
        finally:
            ray.shutdown()


@contextmanager
def _saying_nothing() -> Iterator[None]:
    """Ray would print to stdout, where results go, of workers that die; we say so ourselves, and Ray's logs have the rest."""
    from ray._private import worker

    printed = worker.print_to_stdstream
    worker.print_to_stdstream = lambda *_, **__: None
    try:
        yield
    finally:
        worker.print_to_stdstream = printed


def _knock(address: str) -> None:
    """Raises OSError where nobody listens at HOST:PORT; Ray would wait for many minutes."""
    host, _, port = address.rpartition(":")
    if port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), KNOCK_SECONDS).close()


def load_ray() -> Any:
    """The library, told to report nothing; UsageError where it is not installed."""
    os.environ.update(QUIET)
    try:
        import ray
    except ImportError as error:
        raise UsageError("--engine ray: Ray is not installed; pip install 'sightline[scale]'.") from error
    return ray


@contextmanager
def keeping_to_itself() -> Iterator[None]:
    """While Ray starts here: it asks for no way to the internet, and starts no process whose only task is to report on its use.

    That one would ask the cloud's metadata service where it is even when reports are switched off.
    """
    from ray._private import node, ray_constants

    starting: Any = node.Node
    wanted, report = ray_constants.ENABLE_RAY_CLUSTER, starting.start_api_server
    os.environ[CLUSTER] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    starting.start_api_server = lambda *_, **__: None
    try:
        yield
    finally:
        del os.environ[CLUSTER]
        ray_constants.ENABLE_RAY_CLUSTER, starting.start_api_server = wanted, report


def started(start: Callable[[], Any]) -> Any:
    """What ``start`` gives; tried again where Ray gives up on itself, as it does after 30 seconds on a machine that is busy."""
    for _ in range(STARTS - 1):
        try:
            return start()
        except Exception as error:  # Ray raises Exception itself
            console.say(f"Ray could not be started ({first_line(error)}); once more.")
    return start()


def first_line(error: Exception) -> str:
    """What an error says first; Ray says much more."""
    return str(error).strip().splitlines()[0][:200].rstrip(".:") if str(error).strip() else type(error).__name__
