import pytest

from pipeline.params import Tracking
from pipeline.project.errors import PipelineError
from pipeline.tracking import store, summary
from pipeline.tracking.store import Record
from tests.tracked import DEAD, log, runs

SETTINGS = Tracking(experiment="e", strict=False)


def publish(records, **params):
    return summary.log(Record("publish"), SETTINGS, records, params=params, metrics={"student_accuracy": 0.9},
                       data={"train": "0a" * 32}, artifacts=[], description="table")  # fmt: skip


def test_what_a_dead_server_missed_arrives_with_the_summary(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    log(project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    publish([project / "runs/distill.json"], seed=0)
    (stage,), (version,) = runs()[1], runs("e")[1]
    assert version.data.tags["stage.distill@single-0"] == stage.info.run_id
    assert stage.info.run_id in version.data.tags["mlflow.note.content"]


def test_a_version_holds_the_curves_of_its_stages_and_the_digest_of_its_data(project):
    log(project)
    run_id = publish([project / "runs/distill.json"], seed=0)
    client, (version,) = runs("e")
    history = client.get_metric_history(run_id, "epoch/train_loss/distill-single-0")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.25)]
    (used,) = version.inputs.dataset_inputs
    assert used.tags[0].value == "train" and used.dataset.digest == ("0a" * 32)[:36]


def test_versions_are_named_by_what_changed_and_the_list_has_columns_for_it(project):
    for temperature in (4.0, 2.0):
        publish([], distill={"temperature": temperature})
    client, found = runs("e")
    assert [run.info.run_name for run in found] == ["distill.temperature 4.0 -> 2.0", "first version"]
    (view,) = (value for key, value in client.get_experiment_by_name("e").tags.items() if "sharedViewState" in key)
    assert "params.`distill.temperature`" in view and "metrics.`student_accuracy`" in view
    assert summary.address(SETTINGS).startswith("http://127.0.0.1:5000/#/experiments/")


def test_there_is_no_address_before_the_first_version(project):
    with pytest.raises(PipelineError, match="dvc repro"):
        summary.address(SETTINGS)


def test_earlier_runs_of_a_stage_are_found_the_newest_of_each_setting(project):
    log(project), log(project), log(project, name="other")
    (params, metrics), *others = summary.past(SETTINGS, "distill")
    assert not others and metrics["val_accuracy"] == 0.9 and params["distill.alpha"] == "0.5"


def test_there_are_no_earlier_runs_where_nothing_was_logged(project):
    assert summary.past(SETTINGS, "distill") == []
    assert store.of_stages(SETTINGS) == "e-stages"


def test_the_newest_version_is_the_last_finished_run_of_the_experiment(project):
    assert summary.newest(SETTINGS) is None
    first, second = publish([], seed=0), publish([], seed=1)
    log(project)  # of a stage, in an experiment of its own
    assert summary.newest(SETTINGS) == ("seed 0 -> 1", second, "")
    store.connect().set_terminated(second, "FAILED")
    assert summary.newest(SETTINGS).id == first


def test_a_server_is_shown_without_the_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host:5000/")
    assert summary._server() == "https://host:5000"


def test_a_dead_server_has_no_newest_version(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    with pytest.raises(PipelineError, match="could not be asked"):
        summary.newest(SETTINGS)
