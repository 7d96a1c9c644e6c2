"""`dvc repro` with independent stages at the same time, which DVC itself does not.

`python -m stages.parallel JOBS [STAGE...]` runs all stages, or these with what they need.
Each stage is still run by DVC, so dvc.lock, the cache and the results are those of `dvc repro`. A stage with
`meta: {alone: true}` in dvc.yaml measures time and has the machine for itself.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from dvc.dvcfile import Lockfile
from dvc.exceptions import DvcException
from dvc.repo import Repo, lock_repo
from filelock import FileLock, Timeout

from pipeline import params
from pipeline.params import Compute
from pipeline.project import errors, paths
from pipeline.project.errors import PipelineError
from stages import dvc_files, preload
from stages.preload import Preloaded
from stages.schedule import Schedule

RUNNING, UNCHANGED = "Running stage '", "didn't change, skipping"
CHATTER = ("To track the ch", "To enable auto", "Use `dvc push`", "\tgit add", "\tdvc config", "Updating lock")
LOCK = Path(".dvc/tmp/repro.lock")
GLANCE = 0.2  # seconds until it is seen that somebody interrupts
WORTHWHILE = 4  # stages from which on it saves time to load their libraries once for all
PATIENCE = 10  # seconds that an interrupted stage has to end by itself


class Told(NamedTuple):
    """What DVC said of a stage: was it run, and may its outputs be other ones now?"""

    ran: bool
    changed: bool


def main(jobs: str = "2", *targets: str) -> None:
    repro(jobs, *targets)


def repro(jobs: str, *targets: str) -> list[str]:
    """The stages that ran, in the order in which they ended; what DVC's cache restored is not among them.

    Raises:
        PipelineError: a stage failed, or DVC refused; what it said is printed.
    """
    if not jobs.isdigit() or int(jobs) < 1:
        raise PipelineError(f"JOBS is {jobs}; it should be how many stages may run at once, such as 2.")
    with _only_one():
        with _repo() as repo:
            run_cache = Path(repo.stage_cache.cache_dir)
        for sentence in dvc_files.mend(run_cache):
            print(sentence, flush=True)
        return _run(int(jobs), targets)


def _run(jobs: int, targets: tuple[str, ...]) -> list[str]:
    settings, schedule = params.load().compute, _schedule(targets)
    gpus = [] if settings.accelerator == "cpu" else _shared_out(_gpus(), settings.devices)
    lanes = _lanes(jobs, gpus, settings)
    free = [gpus[lane % len(gpus)] if gpus else None for lane in range(lanes)]
    running, ran, began, width = {}, [], time.monotonic(), max(map(len, schedule.needs))
    with _interrupts() as interrupted, ThreadPoolExecutor(lanes) as pool, _libraries(schedule) as libraries:
        while True:
            while free and (name := schedule.next()):
                device = free.pop()
                if libraries and (running or ran or name in schedule.alone):
                    libraries.wait()  # shorter than importing them again; the first stage has a core beside them
                process = _start(name, device, libraries)
                running[pool.submit(_follow, process, f"{name:<{width}} | ")] = name, device, process
            if not running:
                break
            for future in wait(running, GLANCE, FIRST_COMPLETED).done:
                (name, device, process), told = running.pop(future), future.result()
                schedule.finish(name, ok=process.returncode == 0, changed=told.changed)
                if told.ran:
                    ran.append(name)
                free.append(device)
            if interrupted.is_set():
                _stop([process for _, _, process in running.values()])
                raise KeyboardInterrupt
    if schedule.failed:
        held = schedule.held_back()
        rest = f" What depends on it did not run: {', '.join(held)}." if held else ""
        raise PipelineError(f"{', '.join(sorted(schedule.failed))} failed; the reason stands above.{rest}")
    print(f"{len(schedule.done)} stages are up to date after {time.monotonic() - began:.0f} s, {lanes} at a time")
    return ran


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Set by an interrupt, as an exception could come in the middle of taking a lock."""
    interrupted, sent = threading.Event(), (signal.SIGTERM, signal.SIGINT)  # a shell's background jobs ignore SIGINT
    before = {each: signal.signal(each, lambda *_: interrupted.set()) for each in sent}
    try:
        yield interrupted
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    """Two of these in one checkout would start the same stages."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(LOCK, timeout=0):
            yield
    except Timeout:
        raise PipelineError("Another `make repro` is running in this checkout; wait for it, or stop it.") from None


@contextlib.contextmanager
def _repo() -> Iterator[Repo]:
    try:
        with Repo() as repo:
            yield repo
    except DvcException as error:
        raise PipelineError(f"DVC refused: {error}") from None


def _schedule(targets: tuple[str, ...]) -> Schedule:
    """The graph of dvc.yaml, and what has changed since dvc.lock was written and can't be restored."""
    with _repo() as repo, lock_repo(repo):
        graph = repo.index.graph
        needs = {stage.addressing: {other.addressing for other in graph.successors(stage)} for stage in graph}
        _forget(repo, set(needs))
        if targets:
            wanted = {stage.addressing for target in targets for stage in repo.stage.collect(target)}
            while more := {other for name in wanted for other in needs[name]} - wanted:
                wanted |= more
            needs = {name: others for name, others in needs.items() if name in wanted}
        alone = {stage.addressing for stage in graph if (stage.meta or {}).get("alone")}
        _restore(repo, set(needs))
        return Schedule(needs, alone, set(repo.status()))


def _forget(repo: Repo, names: set[str]) -> None:
    """Drop from dvc.lock what dvc.yaml and params.yaml no longer have, which DVC itself keeps."""
    lock = Lockfile(repo, str(paths.DVC_LOCK))
    for name in set(lock.load().get("stages", {})) - names:
        lock.remove_stage(SimpleNamespace(name=name))


def _restore(repo: Repo, names: set[str]) -> None:
    """Bring back what is missing of these stages' outputs and whole in DVC's cache, at once: by stage it takes minutes.

    An output that is there is left to DVC, which compares it.
    """
    outs = [out for stage in repo.index.stages if stage.addressing in names for out in stage.outs]
    missing = [out for out in outs if not out.exists and not out.changed_cache()]
    for out in missing:
        out.checkout()
    if missing:
        print(f"Outputs restored from DVC's cache: {len(missing)}", flush=True)


def _lanes(jobs: int, gpus: list[str], compute: Compute) -> int:
    """No more jobs than the cores can hold: two pools of threads on one core run at a hundredth of the speed."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    room = jobs if gpus else max(1, min(jobs, cores // (compute.threads * compute.devices)))
    if room < jobs:
        needs = f"a stage has {compute.devices} x {compute.threads} threads"
        print(f"{room} at a time and not {jobs}: {needs} on {cores} cores", flush=True)
    return room


def _gpus() -> list[str]:
    """The GPUs to share out, by the names that CUDA_VISIBLE_DEVICES takes."""
    if (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in chosen.split(",") if name]
    if not (tool := shutil.which("nvidia-smi")):
        return []
    listed = subprocess.run([tool, "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True)
    return listed.stdout.split() if listed.returncode == 0 else []


def _shared_out(gpus: list[str], devices: int) -> list[str]:
    """Groups of as many GPUs as a stage uses, by the names that CUDA_VISIBLE_DEVICES takes."""
    return [",".join(gpus[start : start + devices]) for start in range(0, len(gpus) - devices + 1, devices)]


def _libraries(schedule: Schedule) -> contextlib.AbstractContextManager[Preloaded | None]:
    """Loaded once for all stages, where there are enough of them for that to save time."""
    return preload.start() if schedule.due() >= WORTHWHILE else contextlib.nullcontext()


def _start(name: str, device: str | None, libraries: Preloaded | None) -> subprocess.Popen:
    """DVC on one stage, in a process group of its own, on that GPU if there is one."""
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": device} if device else {})
    environment |= libraries.environment if libraries else {}
    dvc = [sys.executable, "-m", "stages.dvc", "--wait-for-lock"]
    return subprocess.Popen(
        [*dvc, "repro", "--single-item", name], env=environment, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def _follow(process: subprocess.Popen, prefix: str) -> Told:
    """Print what a stage prints until it ends."""
    ran, changed = False, True
    for line in process.stdout:
        ran, changed = ran or line.startswith(RUNNING), changed and UNCHANGED not in line
        if line.strip() and not line.startswith(CHATTER):
            sys.stdout.write(f"{prefix}{line.rstrip()}\n")
            sys.stdout.flush()
    process.wait()
    return Told(ran, changed)


def _stop(processes: list[subprocess.Popen]) -> None:
    """End every stage that runs, with all that it has started."""
    for sent in (signal.SIGINT, signal.SIGKILL):
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sent)
        deadline = time.monotonic() + PATIENCE
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(0.1)


if __name__ == "__main__":
    errors.run(main)
