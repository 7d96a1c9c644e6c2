"""What a stage costs beside its work, and a `dvc repro` with nothing to do: `python -m benchmarks.startup`.

In a scratch copy, on the data of the smoke profile, where there is next to no work but training, fitting and exporting,
which are subtracted. Of `make repro`, one stage at a time, it is the time from one stage's start to the next one's.
"""

import contextlib
import shutil
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

from benchmarks import page, scratch
from benchmarks.page import Figure
from benchmarks.scratch import run
from benchmarks.timing import alternate
from pipeline import params
from pipeline.project import errors, files, paths
from pipeline.tracking import server, store
from pipeline.tracking.store import Record

STAGES = (  # the stage and item of each record
    *(("prepare", ""), ("train_teacher", "resnet"), ("cache_logits", "resnet"), ("fit_ensemble", "")),
    *(("train_baseline", "0"), ("distill", "ensemble-0"), ("score_students", ""), ("export_student", "ensemble")),
    *(("time_members", ""), ("benchmark", ""), ("report", ""), ("publish", "")),
)
ROUNDS = 3


def main() -> None:
    with scratch.checkout(Path("profiles/smoke.yaml").read_text(encoding="utf-8")) as root:
        print("a first run of every stage", flush=True)
        run(root, "dvc", "repro")
        idle = alternate({"dvc repro, nothing to do": lambda: run(root, "dvc", "repro")}, ROUNDS)
        cold = _seconds(root)
        rounds = [_from_start_to_start(root) for _ in range(ROUNDS)]
        loaded = {name: median(seconds[name] for seconds in rounds) for name in cold}
        work = {name: _work(root / paths.record(*name.split("@"))) for name in cold}
        with contextlib.chdir(root):
            logging = _logging()
    nothing = float(np.median(idle["dvc repro, nothing to do"]))
    beyond = {name: (cold[name] - work[name], loaded[name] - work[name]) for name in cold}
    rows = [(name, f"{before:.2f}", f"{after:.2f}") for name, (before, after) in beyond.items()]
    rows.append(("nothing to do", f"{nothing:.2f}", ""))
    rows.append((f"logging alone, {logging[0]}", "", f"{logging[1]:.2f}"))
    typical = median(after for _, after in beyond.values())
    table = pd.DataFrame(rows, columns=["seconds beyond its work", "dvc repro", "make repro"])
    page.publish("startup", table, [
        Figure("a stage of make repro beyond its work, median, seconds", typical, 4),
        Figure("dvc repro with nothing to do, seconds", nothing, 2),
        Figure("logging the stage that logs most, seconds beyond import", logging[1], 1.5),
    ])  # fmt: skip


def _seconds(root: Path) -> dict[str, float]:
    """The median of each stage's seconds in `dvc repro`."""
    names = [f"{stage}@{item}" if item else stage for stage, item in STAGES]
    dvc = ["dvc", "repro", "--force", "--single-item"]
    taken = alternate({name: partial(run, root, *dvc, name) for name in names}, ROUNDS)
    return {name: float(np.median(seconds)) for name, seconds in taken.items()}


def _from_start_to_start(root: Path) -> dict[str, float]:
    """The seconds of each stage in `make repro`, all of them run again."""
    (root / paths.DVC_LOCK).unlink()
    shutil.rmtree(root / ".dvc/cache/runs")
    names, starts = [], []
    words = [sys.executable, "-m", "stages.parallel", "1"]
    with subprocess.Popen(words, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if "Running stage '" in line:
                names.append(line.split("'")[1])
                starts.append(time.monotonic())
    return dict(zip(names, np.diff([*starts, time.monotonic()]).tolist(), strict=True))


def _logging() -> tuple[str, float]:
    """The stage whose record takes longest to log to SQLite, and the median of its seconds, imports aside."""
    client, experiment = server.connect(), store.stages_experiment(params.load().tracking)

    def send(record: Record) -> None:
        store.send(replace(record, id=uuid.uuid4().hex), experiment, client)

    seconds = alternate({record.name: partial(send, record) for record in store.records()}, ROUNDS)
    return max(((name, float(np.median(taken))) for name, taken in seconds.items()), key=lambda pair: pair[1])


def _work(path: Path) -> float:
    """The seconds of training, fitting or exporting in the run of that record."""
    metrics = files.read_json(path)["metrics"] if path.exists() else {}
    return sum(metrics.get(f"{work}_seconds", 0.0) for work in ("train", "fit", "export"))


if __name__ == "__main__":
    errors.run(main)
