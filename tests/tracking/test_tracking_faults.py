"""Tracking never costs a result: a stage as a process of its own, against real servers and files that fail."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from mlflow import MlflowClient

from pipeline.params import Tracking
from pipeline.project import files
from pipeline.project.errors import PipelineError
from pipeline.tracking import server, store, summary
from pipeline.tracking.store import Record
from tests.conftest import CHECKOUT, run
from tests.faults import failing
from tests.tracked import DEAD, log

pytestmark = pytest.mark.long

LONGEST = 30  # seconds that a stage may take longer than with a store that is well
AT_ONCE = 4
CREATED, ARTIFACT = 5, 8  # requests after which the run is there, and after which its artifact comes
RECORD = "runs/distill.json"


class Outcome(NamedTuple):
    stage: subprocess.CompletedProcess
    seconds: float
    kept: bool
    backfill: subprocess.CompletedProcess
    again: subprocess.CompletedProcess | None
    statuses: list[str]


def new_project(folder: Path, experiment: str, strict: bool = False) -> Path:
    folder.mkdir(parents=True)
    tracking = f"tracking: {{experiment: {experiment}, strict: {str(strict).lower()}}}"
    (folder / "params.yaml").write_text((CHECKOUT / "params.yaml").read_text().replace("tracking: {}", tracking))
    return folder


def stage(project: Path, limit: str = "unlimited", **environment: str) -> subprocess.CompletedProcess:
    """limit: how many KiB a file may have."""
    command = f"ulimit -f {limit} && exec {sys.executable} -m tests.tracked"
    return run("bash", "-c", command, cwd=project, PYTHONPATH=str(CHECKOUT), **environment)


def backfill(project: Path, **environment: str) -> subprocess.CompletedProcess:
    return run(sys.executable, "-m", "pipeline.tracking.backfill", cwd=project, PYTHONPATH=str(CHECKOUT), **environment)


def holding(record: str, experiment: str, uri: str) -> list[str]:
    """The status of every run that holds the record."""
    client = MlflowClient(uri)
    folder = client.get_experiment_by_name(f"{experiment}-stages").experiment_id
    return [run.info.status for run in client.search_runs([folder], f"tags.record = '{record}'")]


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Path:
    """A SQLite store as a first stage leaves it."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}")
    return path


@contextmanager
def proxied(address: str, **fault: str | int) -> Iterator[dict[str, str]]:
    with failing(address, **fault) as proxy:
        yield {"MLFLOW_TRACKING_URI": proxy.address}


@contextmanager
def locked(project: Path) -> Iterator[dict[str, str]]:
    with sqlite3.connect(project / "mlflow.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield {}
        other.execute("ROLLBACK")
    other.close()


@contextmanager
def corrupt(project: Path) -> Iterator[dict[str, str]]:
    path = project / "mlflow.db"
    whole = path.read_bytes()
    path.write_bytes(os.urandom(100_000))
    yield {}
    path.write_bytes(whole)
    for left in project.glob(f"{path.name}-*"):
        left.unlink()


@contextmanager
def blocked(project: Path) -> Iterator[dict[str, str]]:
    """A file where the folder of artifacts should be."""
    (project / "mlartifacts").write_text("no folder\n")
    yield {}
    (project / "mlartifacts").unlink()


@contextmanager
def full(project: Path) -> Iterator[dict[str, str]]:
    """No room for a file beyond twice the store's, as an artifact has."""
    room = 2 * (project / "mlflow.db").stat().st_size
    (project / "curve.csv").write_bytes(bytes(2 * room))
    yield {"limit": str(room // 1024)}


NONE = "none"
OF_A_SERVER = {  # with a fault, what the stage is started with
    NONE: lambda address: nullcontext({"MLFLOW_TRACKING_URI": address}),
    "hangs": partial(proxied, fault="hang"),
    "answers byte by byte": partial(proxied, fault="drip"),
    "answers 500": partial(proxied, fault="error"),
    "closes the connection": partial(proxied, fault="drop"),
    "cuts every answer": partial(proxied, fault="cut"),
    "hangs after the run was created": partial(proxied, fault="hang", start=CREATED),
    "answers 500 after the run was created": partial(proxied, fault="error", start=CREATED),
    "closes the connection after the run was created": partial(proxied, fault="drop", start=CREATED),
    "hangs at the artifact": partial(proxied, fault="hang", start=ARTIFACT),
    "refuses": lambda _: nullcontext({"MLFLOW_TRACKING_URI": DEAD}),
}
OF_A_FOLDER = {
    "is locked": locked,
    "is read-only": lambda project: nullcontext(
        {"MLFLOW_TRACKING_URI": f"sqlite:///file:{project / 'mlflow.db'}?mode=ro&uri=true"}
    ),
    "is corrupt": corrupt,
    "has no folder for artifacts": blocked,
    "is full": full,
}
FAULTS = [fault for fault in (*OF_A_SERVER, *OF_A_FOLDER) if fault != NONE]


def suffer(fault: str, address: str, database: Path, folder: Path) -> Outcome:
    """Run a stage while the fault lasts, then a backfill without it, and another."""
    name = fault.replace(" ", "_")
    project = new_project(folder / name, name)
    if fault in OF_A_SERVER:
        uri, suffered = address, OF_A_SERVER[fault](address)
    else:
        (project / "mlflow.db").write_bytes(database.read_bytes())
        uri, suffered = f"sqlite:///{project / 'mlflow.db'}", OF_A_FOLDER[fault](project)
    with suffered as started_with:
        began = time.monotonic()
        done = stage(project, **started_with)
        seconds = time.monotonic() - began
    kept = (project / RECORD).exists()
    sent = backfill(project, MLFLOW_TRACKING_URI=uri)
    statuses = holding(files.read_json(project / RECORD)["id"], name, uri) if kept and sent.returncode == 0 else []
    again = backfill(project, MLFLOW_TRACKING_URI=uri) if fault == "hangs" else None
    return Outcome(done, seconds, kept, sent, again, statuses)


@pytest.fixture(scope="module")
def outcomes(address, database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    names = [NONE, *FAULTS]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        seen = dict(zip(names, pool.map(lambda fault: suffer(fault, address, database, folder), names), strict=True))
    lost = sum("FINISHED" not in outcome.statuses for outcome in seen.values())
    twice = sum(len(outcome.statuses) > 1 for outcome in seen.values())
    beyond = max(outcome.seconds for outcome in seen.values()) - seen[NONE].seconds
    print(f"{len(FAULTS)} faults, {lost} records lost, {twice} there twice, at most {beyond:.1f} s slower for it")
    return seen


@pytest.mark.parametrize("fault", FAULTS)
def test_a_store_that_fails_costs_a_stage_one_warning_and_little_time(fault, outcomes):
    outcome = outcomes[fault]
    assert outcome.stage.returncode == 0, outcome.stage.stderr
    assert outcome.kept and outcome.seconds - outcomes[NONE].seconds < LONGEST
    (warning,) = outcome.stage.stderr.splitlines()
    assert warning.startswith("warning: distill@single-0 could not be logged") and RECORD in warning


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_failing_store_missed_is_sent_once(fault, outcomes):
    outcome = outcomes[fault]
    assert outcome.backfill.returncode == 0, outcome.backfill.stderr
    assert outcome.backfill.stdout.endswith("Of 1 runs 1 were sent and 0 were there already.\n")
    assert outcome.statuses == ["FINISHED"]


def test_a_second_backfill_sends_nothing(outcomes):
    assert outcomes["hangs"].again.stdout == "Of 1 runs 0 were sent and 1 were there already.\n"


@pytest.mark.parametrize("fault", ["cut", "lose", "drop", "error"])
def test_one_lost_answer_never_makes_a_second_run(fault, address, project, monkeypatch):
    """Whichever request it was; MLflow's client sends it again."""
    requests = 0
    while True:
        experiment = f"{fault}{requests}"
        with failing(address, fault, start=requests, times=1) as proxy:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.address)
            record = log(project, experiment=experiment)
        if not proxy.failed.is_set():
            break
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        store.send(record, f"{experiment}-stages", server.connect())
        assert holding(record.id, experiment, address) == ["FINISHED"], f"request {requests}"
        requests += 1
    assert requests > ARTIFACT


@pytest.mark.parametrize("fault", ["hang", "refuse"])
def test_strict_tracking_fails_with_a_sentence(fault, address, tmp_path):
    project = new_project(tmp_path / "project", "strict", strict=True)
    began = time.monotonic()
    with failing(address, "hang") as proxy:
        done = stage(project, MLFLOW_TRACKING_URI=proxy.address if fault == "hang" else DEAD)
    (sentence,) = done.stderr.splitlines()
    assert done.returncode == 1 and sentence.startswith("error:") and "`tracking.strict`" in sentence
    assert time.monotonic() - began < LONGEST and (project / RECORD).exists()


def test_the_run_of_a_killed_stage_is_ended_and_that_of_another_checkout_is_left_alone(address, tmp_path):
    killed, other = (new_project(tmp_path / name, "killed") for name in ("killed", "other"))
    with failing(address, "hang", start=CREATED) as first, failing(address, "hang", start=CREATED) as second:
        sending = []
        for project, proxy in ((killed, first), (other, second)):
            environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "MLFLOW_TRACKING_URI": proxy.address}
            words = [sys.executable, "-m", "tests.tracked"]
            sending.append(subprocess.Popen(words, cwd=project, env=environment, stderr=subprocess.DEVNULL))
            assert proxy.failed.wait(LONGEST)
        sending[0].send_signal(signal.SIGKILL)
        sending[0].wait()
        before = {project: files.read_json(project / RECORD)["id"] for project in (killed, other)}
        assert stage(killed, MLFLOW_TRACKING_URI=address).returncode == 0
        assert holding(before[killed], "killed", address) == ["KILLED"]
        assert holding(before[other], "killed", address) == ["RUNNING"]
        sending[1].wait()
    assert holding(files.read_json(killed / RECORD)["id"], "killed", address) == ["FINISHED"]


def test_checkouts_that_share_one_new_sqlite_file_all_log(tmp_path):
    shared = f"sqlite:///{tmp_path}/shared.db"
    projects = [new_project(tmp_path / name, "shared") for name in ("one", "two", "three")]
    with ThreadPoolExecutor(len(projects)) as pool:
        done = list(pool.map(lambda project: stage(project, MLFLOW_TRACKING_URI=shared), projects))
    assert [(each.returncode, each.stderr) for each in done] == [(0, "")] * len(projects)
    for project in projects:
        assert holding(files.read_json(project / RECORD)["id"], "shared", shared) == ["FINISHED"]


def test_a_kill_while_the_sqlite_file_is_made_leaves_none(tmp_path):
    project = new_project(tmp_path / "project", "killed")
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "MLFLOW_TRACKING_URI": ""}
    making = subprocess.Popen([sys.executable, "-m", "tests.tracked"], cwd=project, env=environment)
    half = project / ".mlflow.db.tmp"
    while not (half.exists() and half.stat().st_size > 100_000):  # in the middle: it has 950 kB in the end
        assert making.poll() is None
        time.sleep(0.01)
    making.kill()
    making.wait()
    assert not (project / "mlflow.db").exists()
    done = stage(project)
    assert (done.returncode, done.stderr) == (0, "")
    assert holding(files.read_json(project / RECORD)["id"], "killed", f"sqlite:///{project}/mlflow.db") == ["FINISHED"]


def test_a_backfill_that_meets_a_dead_server_is_a_sentence(tmp_path):
    project = new_project(tmp_path / "project", "dead")
    stage(project, MLFLOW_TRACKING_URI=DEAD)
    done = backfill(project, MLFLOW_TRACKING_URI=DEAD)
    (sentence,) = done.stderr.splitlines()
    assert done.returncode == 1 and sentence.startswith("error: MLflow did not take every record")


def test_a_summary_that_meets_a_hanging_server_is_a_sentence(address, project, monkeypatch):
    monkeypatch.setattr(server, "DEADLINE", 2)
    with failing(address, "hang") as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.address)
        with pytest.raises(PipelineError, match="`dvc repro publish` tries again"):
            summary.log(Record("publish"), Tracking(experiment="e", strict=False), "")


def test_a_process_ends_although_a_call_and_a_pool_never_do(tmp_path):
    script = """
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from pipeline.project import deadline, errors
def main():
    pool = ThreadPoolExecutor(1)
    try:
        deadline.within(0.1, lambda: pool.submit(Event().wait).result())
    except TimeoutError:
        print("late")
errors.run(main)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, timeout=LONGEST)
    assert (done.returncode, done.stdout) == (0, "late\n")


def test_a_registry_that_hangs_costs_publish_a_sentence_and_the_next_one_registers_once(own_digits, address):
    words = (sys.executable, "-m", "stages.publish")
    with failing(address, "hang", about="/registered-models/") as proxy:
        done = run(*words, cwd=own_digits, MLFLOW_TRACKING_URI=proxy.address, TRACKING_SECONDS="10")
    assert done.returncode == 1 and proxy.failed.is_set()
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("error: The model registry can't be used in MLflow at http://127.0.0.1")
    again = run(*words, cwd=own_digits, MLFLOW_TRACKING_URI=address)
    assert again.returncode == 0 and "fashion 1 is the first champion" in again.stdout, again.stderr
    client = MlflowClient(address)
    versions = client.search_runs([client.get_experiment_by_name("distillation").experiment_id])
    assert [each.info.status for each in versions] == ["FINISHED"]
    assert len(client.search_model_versions("name = 'fashion'")) == 1
