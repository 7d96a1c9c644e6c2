"""The whole pipeline on digits, killed again and again at random moments: TRIALS kills, 12 unless the environment says.

Some kills wait for what is too brief to be met by chance: a checkpoint, and the stages that fit and publish.

`make chaos` makes a hundred. A trial starts `dvc repro` or what `make repro` starts, sends SIGKILL to the stages or to
what started them, and starts one of them again. Whenever a round has come to its end, which nobody disturbs after the
last trial, its outputs are compared with those of a run that was never killed, and the next starts from nothing.
"""

import contextlib
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from pipeline.project import paths
from stages import verify
from tests.conftest import of_digits, run, stages_run

pytestmark = pytest.mark.long

TRIALS = int(os.environ.get("TRIALS", 12))
AIMS = ("", "checkpoint", "", "checkpoint", "fit_ensemble", "", "", "", "", "publish")  # what kills wait for, in turn
MEAN = 10  # seconds until a kill that waits for nothing, exponentially distributed; a stage takes some five to start
LONGEST = 3  # seconds into a stage that a kill waits for
CHECKPOINTS = {"CHECKPOINT_SECONDS": "0.2"}
SEED = 0
REFUSALS = (  # DVC's, where it was killed while it wrote
    "dvc.lock' validation failed", "Unable to read RWLock-file", "join() argument must be str",
)  # fmt: skip
MENDED = "was cut short by a kill"
LEFT = "or a stage that it left"  # which still runs


def test_a_killed_pipeline_ends_with_the_bytes_of_one_that_was_not(digits, tmp_path):
    (tmp_path / "dvc.lock").write_text(run("git", "show", "HEAD:dvc.lock", cwd=digits).stdout)
    expected, dice, hit, resumed, mended = verify.outs(tmp_path), random.Random(SEED), Counter(), 0, 0
    killed = of_digits(tmp_path / "killed")
    assert len(expected) > 25
    while hit.total() < TRIALS:
        _from_nothing(killed)
        done = False
        while not done and hit.total() < TRIALS:
            done, stage, output = _disturbed(killed, dice, AIMS[hit.total() % len(AIMS)])
            resumed += output.count(": going on from")
            mended += output.count(MENDED)
            hit.update([stage] if stage else [])
            print(f"{hit.total()} kills, in {stage or 'none'} at last", flush=True)
        rest = run(sys.executable, "-m", "stages.parallel", "2", cwd=killed)
        assert rest.returncode == 0, rest.stdout + rest.stderr
        resumed += rest.stdout.count(": going on from")
        made = verify.outs(killed)
        assert {path for path in expected if made.get(path) != expected[path]} == set()
    print(f"{hit.total()} kills, {resumed} times on from a checkpoint, {mended} times from a file of DVC's cut short")
    print(f"0 outputs that differ; by stage: {dict(hit)}")
    assert resumed > 0


def _disturbed(root: Path, dice: random.Random, aim: str) -> tuple[bool, str, str]:
    """Start the pipeline and kill it: did it end before that, else in which stage, and what it said."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | CHECKPOINTS | {"PATH": path, "MLFLOW_TRACKING_URI": "", "PYTHONUNBUFFERED": "1"}
    log, words = root / "output.log", dice.choice([["dvc", "repro"], [sys.executable, "-m", "stages.parallel", "2"]])
    with log.open("w") as output:
        process = subprocess.Popen(words, cwd=root, env=environment, stdout=output,
                                   stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
    delay = {"": dice.expovariate(1 / MEAN), "checkpoint": 0}.get(aim, dice.uniform(0, LONGEST))
    moment, whole = math.inf, dice.random() < 0.5
    while process.poll() is None and time.monotonic() <= moment:
        if moment == math.inf and _met(aim, root, log):
            moment = time.monotonic() + delay
        time.sleep(0.02)
    if process.poll() is not None and any(refusal in log.read_text() for refusal in REFUSALS):
        mended = run(sys.executable, "-m", "stages.parallel", "1", "prepare", cwd=root)
        assert mended.returncode == 0 and MENDED in mended.stdout, mended.stdout + mended.stderr
        return False, "", mended.stdout
    if process.poll() is not None and LEFT in log.read_text():
        time.sleep(1)
        return False, "", ""
    if process.poll() is not None:
        assert process.returncode == 0, log.read_text()
        return True, "", log.read_text()
    stages = stages_run(log.read_text())
    if whole:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
    process.wait()
    return False, (stages or ["dvc"])[-1].partition("@")[0], log.read_text()


def _met(aim: str, root: Path, log: Path) -> bool:
    if aim == "checkpoint":
        return any((root / "data/.checkpoints").glob("*.checkpoint"))
    return not aim or f"Running stage '{aim}'" in log.read_text()


def _from_nothing(root: Path) -> None:
    for name in ("dvc.lock", ".dvc/cache", ".dvc/tmp"):
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for folder in (*paths.WRITTEN, "data/.checkpoints"):
        shutil.rmtree(root / folder, ignore_errors=True)
