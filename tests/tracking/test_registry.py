"""The registered model and its aliases, in a store of its own."""

import shutil
import time
from contextlib import suppress

import mlflow
import numpy as np
import onnx
import pytest

from pipeline.deployment import export, latency
from pipeline.project.errors import PipelineError
from pipeline.tracking import registry, server
from tests import toys
from tests.conftest import CHECKOUT
from tests.faults import failing

NAME = "fashion"  # as in pipeline/defaults.yaml
REQUESTS = 10  # registering needs more


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    export.to_onnx(toys.classifier(), path)
    return path


@pytest.fixture(autouse=True)
def own_address(project):
    yield
    mlflow.set_tracking_uri(None)  # registering sets it


@pytest.fixture
def client(project):
    shutil.copy(CHECKOUT / "params.yaml", project)
    return server.connect()


def registered(client, onnx_file, experiment="e", **tags):
    run = client.create_run(server.experiment_id(client, experiment)).info.run_id
    return run, register(client, onnx_file, run, **tags)


def register(client, onnx_file, run, **tags):
    images = toys.images(2)
    example = {"images": images, "logits": latency.onnx_logits(onnx_file, images)}
    return registry.register(client, NAME, onnx_file, example, run, tags)


def aliases(client, *more):
    return {alias: registry.holder(client, NAME, alias) for alias in ("champion", "challenger", "previous", *more)}


def test_the_newest_version_is_challenger_and_nothing_more(client, onnx_file):
    for expected in ("1", "2"):
        assert registered(client, onnx_file)[1] == expected
    assert aliases(client) == {"champion": None, "challenger": "2", "previous": None}


def test_a_run_registers_its_model_once(client, onnx_file):
    run, number = registered(client, onnx_file)
    assert register(client, onnx_file, run) == number
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 1


@pytest.mark.long
@pytest.mark.parametrize(("fault", "times"), [("lose", 1), ("drop", float("inf"))])
def test_registering_that_failed_anywhere_is_made_whole_by_the_next(fault, times, address, onnx_file, monkeypatch):
    """Whichever request it was: one alone whose answer is lost, which MLflow sends again, or all from there on."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between a request and its repetition
    requests, failed = 0, True
    with failing(address, fault, times=0) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.address)
        client = server.connect()
        experiment = server.experiment_id(client, f"{fault}{times}")
        while failed:
            run = client.create_run(experiment).info.run_id
            proxy.arm(requests, times)
            with suppress(PipelineError), server.answering(registry.PROBLEM):
                register(client, onnx_file, run)
            failed = proxy.failed.is_set()
            proxy.arm(0, 0)
            number = register(client, onnx_file, run)
            versions = client.search_model_versions(f"run_id = '{run}'")
            assert [str(version.version) for version in versions] == [number], f"request {requests}"
            assert len(client.search_logged_models([experiment], f"source_run_id = '{run}'")) == 1, (
                f"request {requests}"
            )
            assert registry.holder(client, NAME, registry.CHALLENGER) == number
            requests += 1
    assert requests > REQUESTS


def test_a_version_that_a_lost_answer_made_twice_is_there_once(client, onnx_file):
    run, number = registered(client, onnx_file)
    client.create_model_version(NAME, client.get_model_version(NAME, number).source, run)
    assert register(client, onnx_file, run) == number
    assert len(client.search_model_versions(f"run_id = '{run}'")) == 1


def test_the_registered_file_answers_as_the_exported_one_and_names_its_run(client, onnx_file, tmp_path):
    run, number = registered(client, onnx_file)
    file, images = registry.download(NAME, number, tmp_path / "download"), toys.images(5)
    assert np.array_equal(latency.onnx_logits(file, images), latency.onnx_logits(onnx_file, images))
    assert {entry.key: entry.value for entry in onnx.load(file).metadata_props}["mlflow_run_id"] == run


def test_a_version_has_its_run_lineage_signature_example_and_requirements(client, onnx_file, tmp_path):
    run, number = registered(client, onnx_file, row="student")
    version = client.get_model_version(NAME, number)
    assert version.tags["row"] == "student" and version.run_id == run
    info = mlflow.models.get_model_info(version.source)
    assert info.signature.inputs.input_names() == ["images"] and info.signature.outputs.input_names() == ["logits"]
    assert info.saved_input_example_info
    folder = registry.download(NAME, number, tmp_path / "download").parent
    assert "onnxruntime==" in (folder / "requirements.txt").read_text()


def test_the_model_belongs_to_its_run_and_says_nothing_of_this_machine(client, onnx_file):
    run, _ = registered(client, onnx_file, row="student")
    experiment = client.get_run(run).info.experiment_id
    (model,) = client.search_logged_models([experiment], f"source_run_id = '{run}'")
    assert [output.model_id for output in client.get_run(run).outputs.model_outputs] == [model.model_id]
    assert set(model.tags) == {"mlflow.modelVersions"}  # neither a path, nor a user, nor the address of git's remote


def test_a_crowned_version_is_champion_and_the_one_before_is_remembered(client, onnx_file):
    for number in ("1", "2"):
        registered(client, onnx_file)
        registry.crown(client, NAME, number)
    assert aliases(client) == {"champion": "2", "challenger": "2", "previous": "1"}


def test_the_best_champion_so_far_stays_known_until_a_rollback(client, onnx_file):
    for number, best in (("1", None), ("2", "1"), ("3", "1")):
        registered(client, onnx_file)
        registry.crown(client, NAME, number, best)
    assert aliases(client, "best") == {"champion": "3", "challenger": "3", "previous": "2", "best": "1"}
    registry.main("rollback")
    assert aliases(client, "best")["best"] == aliases(client)["champion"] == "2"


def test_rolling_back_gives_the_alias_to_the_one_before_and_again_forth(client, onnx_file, capsys):
    for number in ("1", "2", "3"):
        registered(client, onnx_file)
        registry.crown(client, NAME, number)
    for expected in ("2", "3"):
        registry.main("rollback")
        assert aliases(client)["champion"] == expected
    registry.main("rollback", "1")
    assert aliases(client)["champion"] == "1"
    registry.main()
    assert "fashion 1  best, champion" in capsys.readouterr().out


def test_what_can_not_be_rolled_back_is_a_sentence(client, onnx_file):
    registered(client, onnx_file)
    with pytest.raises(PipelineError, match="no champion before"):
        registry.main("rollback")
    with pytest.raises(PipelineError, match="no version 9"):
        registry.main("rollback", "9")
    with pytest.raises(PipelineError, match="`remove` is no command"):
        registry.main("remove")


def test_a_registry_that_is_not_there_is_a_sentence(client, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(PipelineError, match=r"registry can't be used in MLflow at http://127\.0\.0\.1:9: "):
        registry.main()
