"""Checkouts that share: one DVC cache and one SQLite at the same time, and a DVC remote one after the other."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from mlflow import MlflowClient

from stages import verify
from tests.conftest import commit, copy_checkout, repro, run, with_smoke

pytestmark = pytest.mark.long


def test_two_checkouts_with_one_cache_and_one_sqlite_both_finish_with_the_same_bytes(tmp_path):
    roots = [with_smoke(copy_checkout(tmp_path / name)) for name in ("one", "two")]
    store = f"sqlite:///{tmp_path}/shared.db"
    for root in roots:
        assert run("dvc", "cache", "dir", "--local", str(tmp_path / "cache"), cwd=root).returncode == 0
    shared = {"MLFLOW_TRACKING_URI": store, "TRACKING_SECONDS": "60"}
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda root: run("dvc", "repro", cwd=root, **shared), roots))
    for each in done:
        assert each.returncode == 0, each.stdout[-3000:] + each.stderr[-3000:]
        assert "warning:" not in each.stderr
    assert verify.outs(roots[0]) == verify.outs(roots[1])
    client = MlflowClient(store)
    ids = {each.name: each.experiment_id for each in client.search_experiments()}
    logged = {experiment: client.search_runs([ids[experiment]], max_results=1000)
              for experiment in ("distillation", "distillation-stages")}  # fmt: skip
    assert {run.info.status for runs in logged.values() for run in runs} == {"FINISHED"}
    assert len(logged["distillation"]) == 2


def test_a_clone_that_pulls_from_a_remote_runs_nothing(digits, tmp_path):
    source, remote, clone = tmp_path / "source", tmp_path / "remote", tmp_path / "clone"
    shutil.copytree(digits, source, symlinks=True)
    repro(source)
    for words in (["remote", "add", "-d", "shared", str(remote)], ["push", "-q"]):
        done = run("dvc", *words, cwd=source)
        assert done.returncode == 0, done.stderr
    commit(source)
    assert run("git", "clone", "-q", str(source), str(clone), cwd=tmp_path).returncode == 0
    assert not (clone / "models/deployed.onnx").exists()
    pulled = run("dvc", "pull", "-q", cwd=clone)
    assert pulled.returncode == 0, pulled.stderr
    assert repro(clone) == []
    assert (clone / "models/deployed.onnx").read_bytes() == (source / "models/deployed.onnx").read_bytes()
