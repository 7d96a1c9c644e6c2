"""What a stage costs beside its work, and a `dvc repro` with nothing to do: `python -m benchmarks.startup`.

In a scratch copy, on the data of the smoke profile, where there is next to no work but training, fitting and exporting,
which are subtracted.
"""

import contextlib
import sys
import uuid
from dataclasses import replace
from functools import partial
from pathlib import Path

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

STAGES = {  # the command of each, and the stage and item of its record
    "prepare": ("prepare", ""),
    "train_teacher resnet": ("train_teacher", "resnet"),
    "cache_logits resnet": ("cache_logits", "resnet"),
    "fit_ensemble": ("fit_ensemble", ""),
    "train_baseline 0": ("train_baseline", "0"),
    "distill ensemble 0": ("distill", "ensemble-0"),
    "score_students": ("score_students", ""),
    "export student ensemble": ("export_student", "ensemble"),
    "time_members": ("time_members", ""),
    "benchmark": ("benchmark", ""),
    "report": ("report", ""),
    "publish": ("publish", ""),
}
ROUNDS = 3


def main() -> None:
    with scratch.checkout(Path("profiles/smoke.yaml").read_text(encoding="utf-8")) as root:
        print("a first run of every stage", flush=True)
        run(root, "dvc", "repro")
        idle = alternate({"dvc repro, nothing to do": lambda: run(root, "dvc", "repro")}, ROUNDS)
        python = [sys.executable, "-m"]
        commands = {command: partial(run, root, *python, *f"stages.{command}".split()) for command in STAGES}
        seconds = alternate(commands, ROUNDS)
        work = {command: _work(root / paths.record(*of)) for command, of in STAGES.items()}
        with contextlib.chdir(root):
            logging = _logging()
    beyond = {stage: float(np.median(seconds[stage])) - work[stage] for stage in STAGES}
    nothing = float(np.median(idle["dvc repro, nothing to do"]))
    rows = [(stage, f"{np.median(seconds[stage]):.2f}", f"{beyond[stage]:.2f}") for stage in STAGES]
    rows.append(("dvc repro, nothing to do", f"{nothing:.2f}", ""))
    rows.append((f"logging alone, {logging[0]}", f"{logging[1]:.2f}", ""))
    table = pd.DataFrame(rows, columns=["command", "seconds", "beyond its work"])
    page.publish("startup", table, [
        Figure("slowest stage beyond its work, seconds", max(beyond.values()), 6),
        Figure("dvc repro with nothing to do, seconds", nothing, 5),
        Figure("logging the stage that logs most, seconds beyond import", logging[1], 1.5),
    ])  # fmt: skip


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
