from types import SimpleNamespace

import pytest

from pipeline import tracking
from pipeline.errors import PipelineError
from pipeline.params import Distill, Tracking
from pipeline.tracking import Record

DEAD = "http://127.0.0.1:9"  # the discard port: nothing listens there


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def log(project, name="distill", strict=False) -> Record:
    artifact = project / "curve.csv"
    artifact.write_text("epoch,loss\n1,0.5\n")
    record = Record(name, "single-0")
    tracking.log(
        record,
        project / f"runs/{name}.json",
        Tracking(experiment="e", strict=strict),
        params={"distill": Distill(sources=["single"], objective="kd", cross_fit=1, alpha=0.5, temperature=2.0)},
        metrics={"val_accuracy": 0.9},
        curve=[{"epoch": 1, "train_loss": 0.5}, {"epoch": 2, "train_loss": 0.25}],
        artifacts=[artifact],
    )
    return record


def runs(experiment="e-stages"):
    client = tracking.connect()
    return client, client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def test_a_run_holds_params_metrics_curve_and_artifacts(project):
    log(project)
    client, (run,) = runs()
    assert run.info.status == "FINISHED" and run.info.run_name == "distill@single-0"
    assert run.data.params["distill.alpha"] == "0.5"
    assert run.data.metrics["val_accuracy"] == 0.9
    assert [point.value for point in client.get_metric_history(run.info.run_id, "epoch/train_loss")] == [0.5, 0.25]
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["curve.csv"]


def test_a_record_is_sent_once(project):
    record = log(project)
    client, (run,) = runs()
    assert tracking.send(tracking.read(project / "runs/distill.json"), "e-stages", client) == run.info.run_id
    assert tracking.read(project / "runs/distill.json") == record
    assert len(runs()[1]) == 1


def test_a_run_that_was_cut_off_while_it_was_sent_is_replaced(project):
    record = log(project)
    client, (run,) = runs()
    client.set_terminated(run.info.run_id, "FAILED")
    tracking.send(record, "e-stages", client)
    (only,) = runs()[1]
    assert only.info.status == "FINISHED" and only.info.run_id != run.info.run_id


def test_a_dead_server_costs_a_warning_and_the_record_arrives_later(project, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    log(project)
    assert "publish" in capsys.readouterr().err
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    tracking.log_summary(
        Record("publish"), Tracking(experiment="e", strict=False), [project / "runs/distill.json"],
        params={"seed": 0}, metrics={}, artifacts=[], description="table",
    )  # fmt: skip
    (stage,), (summary,) = runs()[1], runs("e")[1]
    assert summary.data.tags["stage.distill@single-0"] == stage.info.run_id


def test_strict_tracking_fails_on_a_dead_server_with_the_record_kept(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    with pytest.raises(PipelineError, match="strict"):
        log(project, strict=True)
    assert (project / "runs/distill.json").exists()


def test_an_experiment_in_a_copy_tracks_in_the_project(project, monkeypatch):
    copy = project / ".dvc/tmp/exps/abc"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert tracking.uri() == f"sqlite:///{project / 'mlflow.db'}"


def test_earlier_runs_of_a_stage_are_found_the_newest_of_each_setting(project):
    log(project), log(project), log(project, name="other")
    (params, metrics), *others = tracking.past(Tracking(experiment="e", strict=False), "distill")
    assert not others and metrics["val_accuracy"] == 0.9 and params["distill.alpha"] == "0.5"


def test_there_are_no_earlier_runs_where_nothing_was_logged(project):
    assert tracking.past(Tracking(experiment="none", strict=False), "distill") == []


def summarised(settings) -> str:
    return tracking.log_summary(
        Record("publish"), settings, [], params={}, metrics={}, artifacts=[], description="table"
    )  # fmt: skip


def test_the_newest_summary_is_the_last_finished_run_of_the_experiment(project):
    settings = Tracking(experiment="e", strict=False)
    assert tracking.newest_summary(settings) is None
    first = summarised(settings)
    second = summarised(settings)
    log(project)  # of a stage, in an experiment of its own
    assert tracking.newest_summary(settings) == ("publish", second, "")
    tracking.connect().set_terminated(second, "FAILED")
    assert tracking.newest_summary(settings).id == first


def test_a_summary_on_a_server_has_an_address_without_the_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host:5000/")
    run = SimpleNamespace(info=SimpleNamespace(experiment_id="7", run_id="ab"))
    assert tracking._address(run) == "https://host:5000/#/experiments/7/runs/ab"


def test_a_dead_server_has_no_newest_summary(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    with pytest.raises(PipelineError, match="could not be asked"):
        tracking.newest_summary(Tracking(experiment="e", strict=False))
