"""What a stage costs beside its work, and a `dvc repro` with nothing to do: `python -m benchmarks.startup`.

In a scratch copy, on the data of the smoke profile, where there is next to no work but training and exporting, which
are subtracted.
"""

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import page
from benchmarks.page import Figure
from benchmarks.timing import alternate
from pipeline import errors, files, paths

STAGES = ("prepare", "train_teacher resnet", "cache_logits resnet", "fit_ensemble", "train_baseline 0",
          "distill ensemble 0", "export ensemble-0", "benchmark", "publish")  # fmt: skip
ROUNDS = 3


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _copy(root)
        _run(root, sys.executable, "-m", "stages.wiring", "--profile", "profiles/smoke.yaml")
        print("a first run of every stage", flush=True)
        _run(root, "dvc", "repro")
        idle = alternate({"dvc repro, nothing to do": lambda: _run(root, "dvc", "repro")}, ROUNDS)
        python = [sys.executable, "-m"]
        commands = {stage: partial(_run, root, *python, *f"stages.{stage}".split()) for stage in STAGES}
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


def _copy(root: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if name != "dvc.lock" and Path(name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(Path(name).read_bytes())
    _run(root, "git", "init", "-q")


def _run(root: Path, *words: str) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "DVC_"))}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    result = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True)
    if result.returncode:
        raise errors.PipelineError(f"`{' '.join(words)}` failed: {result.stderr[-2000:]}")


def _work(root: Path, stage: str, *items: str) -> float:
    """The seconds of training, or of exporting, in this stage's last run."""
    path = root / paths.record(stage, "-".join(items))
    metrics = files.read_json(path)["metrics"] if path.exists() else {}
    return metrics.get("train_seconds", 0.0) + metrics.get("export_seconds", 0.0)


if __name__ == "__main__":
    errors.run(main)
