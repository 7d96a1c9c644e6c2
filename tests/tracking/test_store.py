import platform
import subprocess
import sys
import time
from importlib.metadata import version

import pytest

from pipeline.params import Tracking
from pipeline.project.errors import PipelineError
from pipeline.tracking import server, store
from tests.conftest import CHECKOUT
from tests.tracked import DEAD, log, runs


def test_a_run_holds_params_metrics_curve_and_artifacts(project):
    log(project)
    client, (run,) = runs()
    assert run.info.status == "FINISHED" and run.info.run_name == "distill@single-0"
    assert run.data.params["distill.alpha"] == "0.5"
    assert run.data.metrics["val_accuracy"] == 0.9
    assert [point.value for point in client.get_metric_history(run.info.run_id, "epoch/train_loss")] == [0.5, 0.25]
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["curve.csv"]


def test_a_run_says_what_it_ran_on_and_shows_no_path(project):
    log(project)
    _, (run,) = runs()
    tags = run.data.tags
    assert tags["processor"] and tags["version.python"] == platform.python_version()
    assert tags["version.torch"] == version("torch") and tags["version.timm"] == version("timm")
    assert len(tags["checkout"]) == 12 and str(project) not in str(tags)


def test_threads_are_those_of_torch_where_it_is_loaded():
    script = "from pipeline.project import machine; print(machine.surroundings().get('threads')); import torch; "
    script += "torch.set_num_threads(3); print(machine.surroundings()['threads'])"
    done = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "3"]


def test_a_record_is_sent_once(project):
    record = log(project)
    client, (run,) = runs()
    assert store.send(store.read(project / "runs/distill.json"), "e-stages", client) == (run.info.run_id, False)
    assert store.read(project / "runs/distill.json") == record
    assert len(runs()[1]) == 1


def test_a_run_that_was_cut_off_while_it_was_sent_is_replaced(project):
    record = log(project)
    client, (run,) = runs()
    client.set_terminated(run.info.run_id, "FAILED")
    store.send(record, "e-stages", client)
    (only,) = runs()[1]
    assert only.info.status == "FINISHED" and only.info.run_id != run.info.run_id


def test_a_dead_server_costs_a_warning_that_says_where_the_record_is(project, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    log(project)
    warning = capsys.readouterr().err
    assert "`publish` or `make backfill`" in warning and "runs/distill.json" in warning


def test_a_long_execution_logs_what_it_used(project, monkeypatch):
    monkeypatch.setattr(store, "SAMPLED_EVERY", 0.01)
    record = store.begin("train_teacher", "a")
    while not record.usage:
        time.sleep(0.01)
    store.log(record, project / "runs/a.json", Tracking(experiment="e", strict=False))
    client, (run,) = runs()
    (first, *_) = client.get_metric_history(run.info.run_id, "system/process_memory_megabytes")
    assert 1 < first.value < 1e6 and abs(first.timestamp - record.ended) < 60_000


def test_strict_tracking_fails_on_a_dead_server_with_the_record_kept(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    with pytest.raises(PipelineError, match="strict"):
        log(project, strict=True)
    assert (project / "runs/distill.json").exists()


def test_an_experiment_in_a_copy_tracks_in_the_project(project, monkeypatch):
    copy = project / ".dvc/tmp/exps/abc"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert server.uri() == f"sqlite:///{project / 'mlflow.db'}"
