"""A training by the workers of a Ray cluster: Ray Train starts them and has them meet, and each is a process of the training as under
``torchrun``.

What is trained, written and taken up again is not Ray's business. It runs the same function everywhere; the first worker's words come back
by a queue, an error ends all of them, and where workers die the run is taken up again as ``--resume`` does (decision 036).
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sightline import console
from sightline.bulk.ray_start import connected, first_line, load_ray
from sightline.config import RAY, ShareConfig, TrainSettings
from sightline.errors import ConfigError, DataError, Interrupted, ResourceError, UsageError
from sightline.processor import launched, share_processors
from sightline.settings import make, names_of
from sightline.training.ray_crew import Crew, crew_of

# So often workers may die before a training gives up.
MOST_DEATHS = 5
# Read by Ray Train where it is imported and where its trainer is made.
QUIET = {"RAY_TRAIN_V2_ENABLED": "1", "RAY_TRAIN_METRICS_ENABLED": "0"}
PATIENCE_SECONDS = 1.0
# For workers that are stopped to end by themselves.
ENDING_SECONDS = 10.0
SAID, BEGUN, DONE = "said", "begun", "done"
SHARED = "data, runs and the folder this is started in must be on a file system that all machines have under the same names"

# ``folds.train``
Train = Callable[..., Any]


@dataclass(frozen=True)
class Job:
    """What every worker is to do.

    train     called with data, resume, settings, the ``time.monotonic()`` that budgets count from, and what is told the run's folder
    base      the folder that relative names start from
    seen      what is there for the process that was started, and has to be for all
    began     the ``time.time()`` that budgets count from
    """

    train: Train
    data: str | Path | None
    resume: str | Path | None
    settings: Mapping[str, Any]
    base: Path
    seen: tuple[Path, ...]
    began: float

    def going_on(self, folder: Path | None) -> Job:
        """What is left to do when workers have died: of a run that was begun the rest, and otherwise all."""
        if folder is None:
            return self
        own = {name: value for name, value in self.settings.items() if name == "backbone" and callable(value)}
        return replace(self, data=None, resume=folder, settings=own, began=time.time())


def shared_out(train: Train, data: str | Path | None, resume: str | Path | None, settings: dict[str, Any], started: float) -> Any:
    """What ``train`` gives, here or by Ray workers, as ``engine`` in the settings says.

    Raises what it does; UsageError without Ray or where no cluster answers, ResourceError where workers die again and again.
    """
    share = make(ShareConfig, {name: value for name, value in settings.items() if name in names_of(ShareConfig)})
    settings = {name: value for name, value in settings.items() if name not in names_of(ShareConfig)}
    if share.engine != RAY:
        if share.address is not None:
            raise ConfigError([f"--address {share.address}: is for --engine ray."])
        return train(data, resume, settings, started)
    if launched() is not None:
        raise UsageError("--engine ray: Ray starts the workers itself; leave torchrun out.")
    workers = settings.pop("workers", None)
    device = _asked(data, resume, settings, workers).run.device
    base = Path.cwd()
    given = [Path(path) for path in (data, resume) if path is not None]
    seen = (base, *(base / path for path in given if path.exists()))
    job = Job(train, data, resume, settings, base, seen, time.time() - (time.monotonic() - started))
    return _carried_out(job, share, workers, device)


def _asked(data: str | Path | None, resume: str | Path | None, settings: dict[str, Any], workers: int | None) -> TrainSettings:
    """The settings, from the run's record where it goes on, so that mistakes are told before Ray is started; imports what is needed."""
    module = callable(settings.get("backbone"))
    chosen = TrainSettings.of(**{**settings, "workers": workers, **({"backbone": None} if module else {})})
    if data is None and resume is None:
        raise UsageError("Give the folder of images to train on, or --resume RUN.")
    load_ray()
    share_processors()
    os.environ.update(QUIET)
    try:
        import ray.train.torch  # noqa: F401
    except ImportError as error:
        what = "train" if error.name in ("torch", "torchvision") else "scale"
        raise UsageError(f"--engine ray needs {error.name or 'all of Ray Train'}; pip install 'sightline[{what}]'.") from error
    if resume is None:
        return chosen
    from sightline.training.run import reopen

    own = {name: value for name, value in settings.items() if not (name == "backbone" and module)}
    return TrainSettings.from_json(reopen(Path(resume), data, own)[1]["settings"])


def _carried_out(job: Job, share: ShareConfig, workers: int | None, device: str) -> Any:
    """What the first worker's training gives; taken up again when workers die."""
    with connected(share.address, 0) as ray, TemporaryDirectory() as scratch:
        crew, deaths = crew_of(ray.nodes(), workers, device), 0
        folder = None if job.resume is None else Path(job.resume)
        while True:
            console.say(f"Trained by {crew}.")
            going = Going(ray, folder)
            try:
                return going.result(job, crew, Path(scratch))
            except KeyboardInterrupt as error:
                raise Interrupted(f"Stopped.{_kept(going.folder)}") from error
            except _Died as death:
                folder, deaths = going.folder, deaths + 1
                if deaths > MOST_DEATHS:
                    raise ResourceError(f"--engine ray: workers died {deaths} times ({death}).{_kept(folder)}") from death
                where = "from the beginning" if folder is None else f"with what is in {folder}"
                console.warn(f"A worker died ({death}); the training goes on {where}, {MOST_DEATHS - deaths} deaths from giving up.")
            job = job.going_on(folder)
            crew = crew_of(ray.nodes(), crew.workers, device, at_most=True)


def _kept(folder: Path | None) -> str:
    return "" if folder is None else f" What was trained is kept: sightline train --resume {folder} goes on."


class Going:
    """One start of all workers, and what was heard of it; ``folder`` is the run's, once there is one."""

    def __init__(self, ray: Any, folder: Path | None) -> None:
        self.ray, self.folder = ray, folder
        self.found: Any = None
        self.error: BaseException | None = None

    def result(self, job: Job, crew: Crew, scratch: Path) -> Any:
        """What the first worker's ``train`` gave. Raises what the first of the workers raised, _Died where one is gone."""
        from ray.util.queue import Queue
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self.ray.get_runtime_context().get_node_id(), soft=False)
        words = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        trainer = _trainer(job, crew, words, scratch)
        # Not in this thread, where Ray Train would take Ctrl-C for itself.
        running = threading.Thread(target=self._run, args=(trainer,), daemon=True)
        try:
            running.start()
            while running.is_alive():
                self._hear(words, PATIENCE_SECONDS)
            self._hear(words, 0.0)
        finally:
            words.shutdown(force=True)  # workers that are still there end when they have something to say
            if running.is_alive():  # Ray ends the whole process when a thread asks for something once it is shut down
                running.join(ENDING_SECONDS)
        if self.error is not None:
            raise told(self.error) from self.error
        return self.found

    def _run(self, trainer: Any) -> None:
        try:
            trainer.fit()
        except BaseException as error:  # raised again in the thread that waits for this one
            # Its traceback would keep the trainer, and what that holds of the machines, while the next one waits for them.
            self.error = error.with_traceback(None)

    def _hear(self, words: Any, seconds: float) -> None:
        """Say, or keep, what the first worker has to tell, waiting so long for the next word."""
        from ray.util.queue import Empty

        with suppress(Empty):
            while True:
                kind, word = words.get(timeout=seconds) if seconds else words.get_nowait()
                if kind == SAID:
                    console.say(word)
                elif kind == BEGUN:
                    self.folder = self.folder or Path(word)  # of cross-validation the first is that of all folds
                else:
                    self.found = word


def _trainer(job: Job, crew: Crew, words: Any, scratch: Path) -> Any:
    """Ray Train's, which starts the workers once: who dies is our business. It wants a folder, and writes only a mark into it."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from sightline.training.ranks import PATIENCE

    never = {name: 0 for name in ("max_failures", "controller_failure_limit", "max_preemption_failures") if hasattr(FailureConfig, name)}
    each = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(crew.threads))}
    each |= {} if crew.gpu else {"CUDA_VISIBLE_DEVICES": ""}
    return TorchTrainer(
        lambda: work(job, words),
        torch_config=TorchConfig(backend="nccl" if crew.gpu else "gloo", timeout_s=int(PATIENCE.total_seconds())),
        scaling_config=ScalingConfig(
            num_workers=crew.workers, use_gpu=crew.gpu, resources_per_worker={"CPU": crew.threads, **({"GPU": 1} if crew.gpu else {})}
        ),
        run_config=RunConfig(
            name="train", storage_path=str(scratch), failure_config=FailureConfig(**never), worker_runtime_env={"env_vars": each}
        ),
    )


def work(job: Job, words: Any) -> None:
    """A worker's part, in its process: the training, of which the first worker tells."""
    import torch.distributed as dist

    first = dist.get_rank() == 0
    if first:
        console.say_to(lambda line: words.put((SAID, line)))

    def begun(folder: Path) -> None:
        if first:
            words.put((BEGUN, str(folder)))
        else:
            _check_seen(job.base / folder)

    try:
        for path in job.seen:
            _check_seen(path)
        os.chdir(job.base)
        found = job.train(job.data, job.resume, job.settings, time.monotonic() - (time.time() - job.began), begun)
    except Exception as error:
        error.add_note(f"In the Ray worker on {socket.gethostname()}:\n{traceback.format_exc()}")
        raise
    if first:
        words.put((DONE, found))


def _check_seen(path: Path) -> None:
    if not path.exists():
        raise DataError(f"{path}: the Ray worker on {socket.gethostname()} does not see it; {SHARED}.")


def told(error: BaseException) -> BaseException:
    """What is to be raised for what Ray Train raised: the error of the first worker that has one of its own, or _Died."""
    failures = [each for _, each in sorted(getattr(error, "worker_failures", {}).items())]
    for each in failures:
        if not (isinstance(each, Interrupted) or _is_rays(each)):
            each.told_elsewhere = False  # type: ignore[attr-defined]  # it is told here
            return each
    if not _is_rays(error):
        return error
    if lacking := re.search(r"No module named '[^']+'", str(error)):
        return UsageError(f"--engine ray: a worker could not begin ({lacking[0]}); install the same Sightline on all machines.")
    deaths = [getattr(each, "health_check_failure", each) for each in failures if _is_rays(each)]
    death = (deaths or [getattr(error, "controller_failure", error)])[0]
    return _Died(first_line(getattr(death, "cause", None) or death))


def _is_rays(error: BaseException) -> bool:
    """Whether it was Ray that met it, not what a worker was at."""
    return type(error).__module__.partition(".")[0] == "ray"


class _Died(Exception):
    """A worker is gone."""
