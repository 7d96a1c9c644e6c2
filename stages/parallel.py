"""`dvc repro` with independent stages at the same time, which DVC itself does not.

`python -m stages.parallel JOBS [STAGE...]` runs all stages, or these with what they need.
What DVC does for a stage it does here too, so dvc.lock, the cache and the results are those of `dvc repro`. A stage
with `meta: {alone: true}` in dvc.yaml measures time and has the machine for itself.
"""

import contextlib
import fcntl
import gc
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
from typing import TYPE_CHECKING, NamedTuple

from pipeline import params
from pipeline.params import Compute
from pipeline.project import errors
from pipeline.project.errors import PipelineError
from stages import own_names, preload, trying
from stages.preload import Preloaded
from stages.schedule import Schedule

if TYPE_CHECKING:
    from stages.dvc_stages import Stages

LOCK = Path(".dvc/tmp/repro.lock")
GLANCE = 0.2  # seconds until it is seen that somebody interrupts
WORTHWHILE = 4  # stages from which on it saves time to load their libraries once for all
PATIENCE = 10  # seconds that an interrupted stage has to end by itself


class Job(NamedTuple):
    """A stage that runs, on that GPU if there is one. rest: the commands that come after this one."""

    stage: str
    device: str | None
    process: subprocess.Popen
    rest: list[str]


class Lanes:
    """Stages on their way, as many at once as there are lanes. ran: those that have run, as they ended.

    Args:
        free: a lane each, the GPU that it has or None.
        libraries: loaded once for all stages, or None.
        lock: a file that every process holds open.
    """

    def __init__(
        self, stages: "Stages", schedule: Schedule, free: list[str | None], libraries: Preloaded | None, lock: int
    ) -> None:
        self._lock = lock
        self.stages, self.schedule, self.libraries, self.ran = stages, schedule, libraries, []
        self._free, self._pool, self._jobs = free, ThreadPoolExecutor(len(free)), {}
        self._width = max(map(len, schedule.needs))

    def start(self) -> bool:
        """Start what may start on what is free: does anything run?"""
        while self._free and (name := self.schedule.next()):
            try:
                commands = self.stages.begin(name)
            except PipelineError as error:
                self._fail(name, str(error))
                continue
            if commands:
                self._launch(name, self._free.pop(), commands, alone=name in self.schedule.alone)
            elif commands is None:
                self.schedule.finish(name, ok=True, changed=False)
            else:
                images = self.stages.is_data(name)
                self._say(name, "taken as it is now" if images else "restored from DVC's run cache")
                self.schedule.finish(name, ok=True, changed=True)
        if not self.schedule.running & self.schedule.alone:  # not beside what measures time
            self.stages.write(now=not self._jobs)
        return bool(self._jobs)

    def finish(self) -> None:
        """Wait a moment for what runs, and end what has come to its end."""
        for future in wait(self._jobs, GLANCE, FIRST_COMPLETED).done:
            job, status = self._jobs.pop(future), future.result()
            if status == 0 and job.rest:
                self._launch(job.stage, job.device, job.rest)
                continue
            self._free.append(job.device)
            if status:
                self.stages.give_up(job.stage)
                self._fail(job.stage, f"`{job.process.args[-1]}` {_how(status)}")
                continue
            try:
                self.stages.end(job.stage)
            except PipelineError as error:
                self._fail(job.stage, str(error))
                continue
            self.ran.append(job.stage)
            self.schedule.finish(job.stage, ok=True, changed=True)

    def stop(self) -> None:
        """End every process that runs, with all that it has started."""
        jobs = list(self._jobs.values())
        for sent in (signal.SIGINT, signal.SIGKILL):
            for job in jobs:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(job.process.pid, sent)
            deadline = time.monotonic() + PATIENCE
            while any(job.process.poll() is None for job in jobs) and time.monotonic() < deadline:
                time.sleep(0.1)
        self.stages.give_up()
        with contextlib.suppress(KeyboardInterrupt):  # another process of DVC is at work
            self.stages.write(now=True)

    def _launch(self, name: str, device: str | None, commands: list[str], *, alone: bool = False) -> None:
        """Run the first command, in a process group of its own."""
        if self.libraries:
            lonely = not (self._jobs or self.ran or self.schedule.more)  # it would wait longer than it imports itself
            self.libraries.wait("time" if alone else "prepare" if lonely else "train")
        how = self.stages.process(name, commands[0])
        how["env"] |= {"CUDA_VISIBLE_DEVICES": device} if device else {}
        how["env"] |= self.libraries.environment if self.libraries else {}
        self._say(name, f"Running stage '{name}':\n> {commands[0]}")
        process = subprocess.Popen(
            **how, text=True, errors="replace", start_new_session=True, pass_fds=(self._lock,),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._jobs[self._pool.submit(self._follow, name, process)] = Job(name, device, process, commands[1:])

    def _follow(self, name: str, process: subprocess.Popen) -> int:
        """Print what a process prints until it ends; its exit status."""
        for line in process.stdout:
            self._say(name, line)
        return process.wait()

    def _fail(self, name: str, sentence: str) -> None:
        self._say(name, f"error: {sentence}")
        self.schedule.finish(name, ok=False, changed=True)

    def _say(self, name: str, text: str) -> None:
        lines = [line.rstrip() for line in text.splitlines() if line.strip()]
        sys.stdout.write("".join(f"{name:<{self._width}} | {line}\n" for line in lines))
        sys.stdout.flush()


def _how(status: int) -> str:
    """How a process ended, by its exit status, which of a fork is 128 more than the signal that killed it."""
    number = -status if status < 0 else status - 128
    if number not in set(signal.Signals):
        return f"ended with exit status {status}"
    memory = "; is there enough memory?" if number == signal.SIGKILL else ""
    return f"was killed by {signal.Signals(number).name}{memory}"


def main(jobs: str = "2", *targets: str) -> None:
    repro(jobs, *targets)


def repro(jobs: str, *targets: str) -> list[str]:
    """The stages that ran, in the order in which they ended; what DVC's cache restored is not among them.

    Raises:
        PipelineError: a stage failed, or DVC refused; what it said is printed.
    """
    if not jobs.isdigit() or int(jobs) < 1:
        raise PipelineError(f"JOBS is {jobs}; it should be how many stages may run at once, such as 2.")
    interrupted = threading.Event()
    with _only_one() as lock, preload.start() as libraries:
        settings = params.load_for_dvc()  # a mistake in it is told before DVC trips over it
        own_names.check(settings.data)
        trying.check(settings)
        from stages.dvc_stages import Stages  # DVC, beside the libraries: each takes seconds to import

        gc.enable()
        return _run(int(jobs), Stages(targets, interrupted), settings.compute, interrupted, libraries, lock)


def _run(
    jobs: int,
    stages: "Stages",
    settings: Compute,
    interrupted: threading.Event,
    libraries: Preloaded | None,
    lock: int,
) -> list[str]:
    began = time.monotonic()
    schedule = Schedule(stages.needs, stages.alone, stages.changed)
    gpus = [] if settings.accelerator == "cpu" else _shared_out(_gpus(), settings.devices)
    count = _lanes(jobs, gpus, settings)
    free = [gpus[lane % len(gpus)] if gpus else None for lane in range(count)]
    if libraries and schedule.due() < WORTHWHILE:
        libraries.process.kill()
        libraries = None
    with _interrupts(interrupted):
        lanes = Lanes(stages, schedule, free, libraries, lock)
        try:
            while lanes.start():
                lanes.finish()
                if interrupted.is_set():
                    raise KeyboardInterrupt
        except BaseException:
            lanes.stop()
            raise
    if schedule.failed:
        held = schedule.held_back()
        rest = f" What depends on it did not run: {', '.join(held)}." if held else ""
        raise PipelineError(f"{', '.join(sorted(schedule.failed))} failed; the reason stands above.{rest}")
    print(f"{len(schedule.done)} stages are up to date after {time.monotonic() - began:.0f} s, {count} at a time")
    return lanes.ran


@contextlib.contextmanager
def _interrupts(interrupted: threading.Event) -> Iterator[None]:
    """Set by an interrupt, as an exception could come in the middle of taking a lock."""
    sent = (signal.SIGTERM, signal.SIGINT)  # a shell's background jobs ignore SIGINT
    before = {each: signal.signal(each, lambda *_: interrupted.set()) for each in sent}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextlib.contextmanager
def _only_one() -> Iterator[int]:
    """Two of these in one checkout would start the same stages. The file that is locked, as its processes hold it too.

    So a stage that goes on when this process is killed keeps the next one from starting it again.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PipelineError(
                "Another `make repro` is running in this checkout, or a stage that it left; wait for it, or stop it."
            ) from None
        yield file.fileno()


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


if __name__ == "__main__":
    errors.run(main)
