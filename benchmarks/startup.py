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
from pipeline.tracking import store
from pipeline.tracking.store import Record

STAGES = (
    *("prepare", "train_teacher resnet", "cache_logits resnet", "fit_ensemble", "train_baseline 0"),
    *("distill ensemble 0", "score_students", "export ensemble-0", "time_members", "benchmark", "report", "publish"),
)
ROUNDS = 3


def main() -> None:
    with scratch.checkout(Path("profiles/smoke.yaml").read_text(encoding="utf-8")) as root:
        print("a first run of every stage", flush=True)
        run(root, "dvc", "repro")
        idle = alternate({"dvc repro, nothing to do": lambda: run(root, "dvc", "repro")}, ROUNDS)
        python = [sys.executable, "-m"]
        commands = {stage: partial(run, root, *python, *f"stages.{stage}".split()) for stage in STAGES}
        seconds = alternate(commands, ROUNDS)
        work = {stage: _work(root, *stage.split()) for stage in STAGES}
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
    client, settings = store.connect(), params.load().tracking
    records = {path.stem: store.read(path) for path in sorted(Path("runs").glob("*.json"))}

    def send(record: Record) -> None:
        store.send(replace(record, id=uuid.uuid4().hex), store.of_stages(settings), client)

    seconds = alternate({name: partial(send, record) for name, record in records.items()}, ROUNDS)
    return max(((name, float(np.median(taken))) for name, taken in seconds.items()), key=lambda pair: pair[1])


def _work(root: Path, stage: str, *items: str) -> float:
    """The seconds of training, fitting or exporting in this stage's last run."""
    path = root / paths.record(stage, "-".join(items))
    metrics = files.read_json(path)["metrics"] if path.exists() else {}
    return sum(metrics.get(f"{work}_seconds", 0.0) for work in ("train", "fit", "export"))


if __name__ == "__main__":
    errors.run(main)
