"""The summary run, and what is read from earlier ones."""

from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline.params import Tracking, flatten
from pipeline.project import files
from pipeline.project.errors import PipelineError
from pipeline.tracking import store, summary
from pipeline.tracking.store import Record
from tests.tracked import DEAD, log, runs

SETTINGS = Tracking(experiment="e", strict=False)


def publish(**params):
    record = Record("publish", params=flatten(params), metrics={"student_accuracy": 0.9}, data={"train": "0a" * 32})
    return summary.log(record, SETTINGS, "table")


def test_what_a_dead_server_missed_arrives_with_the_summary(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    log(project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    publish(seed=0)
    (stage,), (version,) = runs()[1], runs("e")[1]
    assert version.data.tags["stage.distill@single-0"] == stage.info.run_id
    assert stage.info.run_id in version.data.tags["mlflow.note.content"]


def test_a_version_holds_the_curves_of_its_stages_and_the_digest_of_its_data(project):
    log(project)
    run_id = publish(seed=0)
    client, (version,) = runs("e")
    history = client.get_metric_history(run_id, "epoch/train_loss/distill-single-0")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.25)]
    (used,) = version.inputs.dataset_inputs
    assert used.tags[0].value == "train" and used.dataset.digest == ("0a" * 32)[:36]


def test_versions_are_named_by_what_changed_and_the_list_says_what_to_compare_them_by(project):
    for temperature in (4.0, 2.0):
        publish(distill={"temperature": temperature})
    client, versions = runs("e")
    assert [run.info.run_name for run in versions] == ["distill.temperature 4.0 -> 2.0", "first version"]
    experiment = client.get_experiment_by_name("e")
    assert "`student_accuracy`" in experiment.tags["mlflow.note.content"]
    assert summary.address(SETTINGS) == f"http://127.0.0.1:5000/#/experiments/{experiment.experiment_id}/runs"


def test_nothing_is_written_into_the_state_of_mlflows_pages(project):
    publish(seed=0)
    client, (version,) = runs("e")
    tags = client.get_experiment_by_name("e").tags | version.data.tags
    own = {"mlflow.note.content", "mlflow.experimentKind", "mlflow.runName", "mlflow.source.git.commit"}
    assert {key for key in tags if key.startswith("mlflow.")} <= own


def test_a_summary_that_is_published_again_is_one_version(project):
    log(project)
    assert publish(seed=0) == publish(seed=0)
    assert len(runs("e")[1]) == len(runs()[1]) == 1


def test_records_of_every_folder_below_runs_are_sent(project):
    for path in ("runs/distill/single-0.json", "runs/prepare.json"):
        record = Record(Path(path).parts[1].removesuffix(".json"), metrics={"seconds": 1.0})
        files.write_json(Path(path), asdict(record))
    publish(seed=0)
    assert {run.data.tags["stage"] for run in runs()[1]} == {"distill", "prepare"}


def test_there_is_no_address_before_the_first_version(project):
    with pytest.raises(PipelineError, match="dvc repro"):
        summary.address(SETTINGS)


def test_earlier_runs_of_a_stage_are_those_of_its_name(project):
    log(project), log(project, name="other")
    (params, metrics), *others = summary.past(SETTINGS, "distill")
    assert not others and metrics["val_accuracy"] == 0.9 and params["distill.alpha"] == "0.5"


def test_there_are_no_earlier_runs_where_nothing_was_logged(project):
    assert summary.past(SETTINGS, "distill") == []
    assert store.stages_experiment(SETTINGS) == "e-stages"
