"""What a stage costs beside its work, and a `dvc repro` with nothing to do: `python -m benchmarks.startup`.

In a scratch copy, on the data of the smoke profile, where there is next to no work but training, fitting and exporting,
which are subtracted.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import page, scratch
from benchmarks.page import Figure
from benchmarks.scratch import run
from benchmarks.timing import alternate
from pipeline import errors, files, paths

STAGES = (
    *("prepare", "train_teacher resnet", "cache_logits resnet", "fit_ensemble", "train_baseline 0"),
    *("distill ensemble 0", "score_students", "export ensemble-0", "time_members", "benchmark", "publish"),
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
    beyond = {stage: float(np.median(seconds[stage])) - work[stage] for stage in STAGES}
    nothing = float(np.median(idle["dvc repro, nothing to do"]))
    rows = [(stage, f"{np.median(seconds[stage]):.2f}", f"{beyond[stage]:.2f}") for stage in STAGES]
    table = pd.DataFrame([*rows, ("dvc repro, nothing to do", f"{nothing:.2f}", "")],
                         columns=["command", "seconds", "beyond its work"])  # fmt: skip
    page.publish("startup", table, [
        Figure("slowest stage beyond its work, seconds", max(beyond.values()), 6),
        Figure("dvc repro with nothing to do, seconds", nothing, 5),
    ])  # fmt: skip


def _work(root: Path, stage: str, *items: str) -> float:
    """The seconds of training, fitting or exporting in this stage's last run."""
    path = root / paths.record(stage, "-".join(items))
    metrics = files.read_json(path)["metrics"] if path.exists() else {}
    return sum(metrics.get(f"{work}_seconds", 0.0) for work in ("train", "fit", "export"))


if __name__ == "__main__":
    errors.run(main)
