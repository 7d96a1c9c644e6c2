"""DVC's part in running stages: what it does before and after a stage's commands, for all stages in one process.

It is what `dvc repro --single-item` does, which for every stage starts anew, reads the graph, and reads and writes all
of dvc.lock: that takes longer than most stages work.
"""

import contextlib
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

from dvc.dependency.db import AbstractDependency
from dvc.dependency.repo import RepoDependency
from dvc.dvcfile import Lockfile
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo, lock_repo
from dvc.rwlock import rwlock
from dvc.stage import Stage, run
from dvc.stage.cache import RunCacheNotFoundError
from dvc.stage.serialize import to_lockfile

from pipeline.project import inputs, paths
from pipeline.project.errors import PipelineError
from stages import dvc_files

WRITING = 10  # seconds between two writes of dvc.lock; what a kill leaves out of it, DVC's run cache has


class Stages:
    """The stages of dvc.yaml by name, or some and what they need. Each is begun, then ended or given up.

    needs: each stage's direct dependencies. alone: those that measure time. changed: those that must run for reasons of
    their own and whose outputs DVC's cache does not have; the others' are there.

    Args:
        targets: none: all stages.
        interrupted: wait no longer for another process of DVC.
    """

    def __init__(self, targets: tuple[str, ...], interrupted: threading.Event) -> None:
        self._interrupted = interrupted
        logging.getLogger("dvc").setLevel(logging.WARNING)
        self._held: dict[str, contextlib.ExitStack] = {}
        self._ended: list[Stage] = []
        self._written = 0.0
        with _refusals():
            self._repo = Repo()
        for sentence in dvc_files.mend(Path(self._repo.stage_cache.cache_dir)):
            print(sentence, flush=True)
        with self._locked():
            graph = self._repo.index.graph
            self._stages = {stage.addressing: stage for stage in graph}
            self.needs = {name: {each.addressing for each in graph.successors(stage)}
                          for name, stage in self._stages.items()}  # fmt: skip
            self._forget()
            if targets:
                self.needs = self._needed(
                    {each.addressing for name in targets for each in self._repo.stage.collect(name)}
                )
            else:  # images that no stage reads may be missing
                read = set().union(*self.needs.values())
                self.needs = {name: needs for name, needs in self.needs.items()
                              if self._stages[name].cmd or name in read}  # fmt: skip
            self.alone = {name for name, stage in self._stages.items() if (stage.meta or {}).get("alone")}
            self._restore()
            self.changed = set(self._repo.status())

    def begin(self, name: str) -> list[str] | None:
        """The commands to run; none where DVC's run cache had the outputs; None where nothing has changed.

        Raises:
            PipelineError: DVC refuses.
        """
        stage = self._stages[name]
        with self._locked():
            if not stage.cmd or stage.frozen:  # images under DVC, an import: what DVC does itself
                if not stage.reproduce():
                    return None
                stage.dump(update_pipeline=False)
                return []
            with contextlib.ExitStack() as held:
                held.enter_context(self._rwlock(stage))
                if not stage.changed():
                    return None
                stage.remove_outs(ignore_remove=False, force=False)
                try:
                    self._repo.stage_cache.restore(stage)
                    commands = []
                except RunCacheNotFoundError:
                    stage.save_deps()
                    commands = stage.cmd if isinstance(stage.cmd, list) else stage.cmd.splitlines()
                self._held[name] = held.pop_all()
        if not commands:
            self.end(name)
        return commands

    def is_data(self, name: str) -> bool:
        """Whether it is what `dvc add` made: images, and no command."""
        return self._stages[name].is_data_source

    def process(self, name: str, command: str) -> dict[str, Any]:
        """How DVC runs a command of it, with the checksums of what it reads: arguments of subprocess.Popen."""
        outs = {out.def_path: out.hash_info.value for stage in self._stages.values() if not stage.is_data_source
                for out in stage.outs if out.hash_info}  # fmt: skip
        deps = [PurePosixPath(dep.def_path) for dep in self._stages[name].deps if dep.def_path]
        environment = {inputs.EXPECTED: json.dumps(inputs.read_of(outs, deps))}
        return {"args": run._make_cmd(run.get_executable(), command)} | run.prepare_kwargs(
            self._stages[name], environment
        )

    def end(self, name: str) -> None:
        """Its commands have succeeded: keep its outputs in DVC's cache. `write` has still to put them into dvc.lock.

        Raises:
            PipelineError: DVC refuses, as an output is missing; or what the stage depends on was edited while it ran.
        """
        stage = self._stages[name]
        with self._locked(), self._held.pop(name):
            if edited := self._edited(stage):
                raise PipelineError(f"{edited} changed while it ran, so its outputs may be of either; run again.")
            plain = any(not out.use_cache for out in stage.outs if not (out.is_metric or out.is_plot))
            stage.save(run_cache=not plain)
            stage.commit()
        self._ended.append(stage)

    def give_up(self, *names: str) -> None:
        """Their commands have failed, or, without names, all that was begun is stopped."""
        for name in names or list(self._held):
            self._held.pop(name).close()

    def write(self, *, now: bool = False) -> None:
        """Put what has ended into dvc.lock: now, or if the last time was some seconds ago."""
        if self._ended and (now or time.monotonic() - self._written > WRITING):
            with self._locked():
                dvc_files.enter({name: entry for stage in self._ended for name, entry in to_lockfile(stage).items()})
                self._repo.scm_context.track_file(str(paths.DVC_LOCK))
            self._ended.clear()
            self._written = time.monotonic()

    def _fetch(self) -> None:
        """Bring images that are neither here nor in DVC's cache from its remote."""
        sources = [stage for name in self.needs if (stage := self._stages[name]).is_data_source]
        absent = [out for stage in sources for out in stage.outs if not out.exists and out.changed_cache()]
        if not absent:
            return
        reason = "it has no such files"
        try:
            self._repo.fetch([out.stage.addressing for out in absent])
        except DvcException as error:
            reason = str(error).rstrip(".")
        if names := ", ".join(out.def_path for out in absent if out.changed_cache()):
            raise PipelineError(
                f"{names}: not here, not in DVC's cache, and not to be had from a remote ({reason}); "
                "`dvc remote add -d` names one, `make import` brings the images anew."
            )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone in the project, among all processes of DVC."""
        with _refusals(), contextlib.ExitStack() as held:
            while True:
                with contextlib.suppress(LockError):  # DVC tries for three seconds
                    held.enter_context(lock_repo(self._repo))
                    break
                if self._interrupted.is_set():
                    raise KeyboardInterrupt
            held.enter_context(self._repo.scm_context(quiet=True))
            yield

    def _rwlock(self, stage: Stage) -> contextlib.AbstractContextManager[None]:
        """Has other processes of DVC refuse to touch what the stage reads and writes."""
        local = [dep for dep in stage.deps if not isinstance(dep, RepoDependency | AbstractDependency)]
        read, write = ([each.fs_path for each in ends] for ends in (local, stage.outs))
        hardlink = self._repo.config["core"].get("hardlink_lock", False)
        command = " ".join(sys.argv)  # as DVC has it, which knows by it what it holds itself
        return rwlock(self._repo.tmp_dir, self._repo.fs, command, read, write, hardlink)

    def _edited(self, stage: Stage) -> str:
        """What dvc.lock would say of other settings or code than those that ran, or "".

        What stages write is left out: a stage that gathers a folder removes what params.yaml no longer names.
        """
        made = (each for each in self._stages.values() if not each.is_data_source)
        outs = [PurePosixPath(out.def_path) for each in made for out in each.outs]
        for dep in stage.deps:
            path = PurePosixPath(dep.def_path or "")
            if any(path.is_relative_to(out) or out.is_relative_to(path) for out in outs):
                continue
            if status := dep.workspace_status():
                changed = next(iter(status.values()))
                keys = f" ({', '.join(changed)})" if isinstance(changed, dict) else ""
                return f"{dep}{keys}"
        return ""

    def _needed(self, wanted: set[str]) -> dict[str, set[str]]:
        while more := {other for name in wanted for other in self.needs[name]} - wanted:
            wanted |= more
        return {name: others for name, others in self.needs.items() if name in wanted}

    def _forget(self) -> None:
        """Drop from dvc.lock what dvc.yaml and params.yaml no longer have, which DVC itself keeps."""
        lock = Lockfile(self._repo, str(paths.DVC_LOCK))
        for name in set(lock.load().get("stages", {})) - set(self._stages):
            lock.remove_stage(SimpleNamespace(name=name))

    def _restore(self) -> None:
        """Bring back what is missing of the outputs and whole in DVC's cache, at once: by stage it takes minutes.

        An output that is there is left to DVC, which compares it.
        """
        self._fetch()
        outs = [out for name in self.needs for out in self._stages[name].outs]
        missing = [out for out in outs if not out.exists and not out.changed_cache()]
        for out in missing:
            out.checkout()
        if missing:
            print(f"Outputs restored from DVC's cache: {len(missing)}", flush=True)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """DVC's errors as sentences."""
    try:
        yield
    except (DvcException, OSError) as error:
        said = str(error).rstrip(".")
        merge = "; after a merge, `git checkout --ours` takes one side of it" if "corrupted" in said else ""
        raise PipelineError(f"DVC refused: {said}{merge}.") from None
