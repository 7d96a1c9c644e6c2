"""The registered model and its aliases, in a store of its own."""

import shutil

import numpy as np
import onnx
import pytest

from pipeline.deployment import export, latency
from pipeline.project.errors import PipelineError
from pipeline.tracking import registry, store
from tests import toys
from tests.conftest import CHECKOUT

NAME = "fashion"  # as in params.yaml


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    export.to_onnx(toys.classifier(), path)
    return path


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(CHECKOUT / "params.yaml", tmp_path)
    client = store.connect()
    client.experiment = client.create_experiment("e", str(tmp_path / "artifacts"))
    return client


def registered(client, onnx_file):
    run = client.create_run(client.experiment).info.run_id
    return run, registry.register(client, NAME, onnx_file, toys.images(2), run, {"row": "student"})


def aliases(client):
    return {alias: registry.holder(client, NAME, alias) for alias in ("champion", "challenger", "previous")}


def test_the_newest_version_is_challenger_and_nothing_more(client, onnx_file):
    for expected in ("1", "2"):
        assert registered(client, onnx_file)[1] == expected
    assert aliases(client) == {"champion": None, "challenger": "2", "previous": None}


def test_a_run_registers_its_model_once(client, onnx_file):
    run, number = registered(client, onnx_file)
    assert registry.register(client, NAME, onnx_file, toys.images(2), run, {}) == number
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 1


class Interrupted(Exception):
    pass


class Cut:
    """The client, until a call: `before` it is made or `after`, the process is as good as dead."""

    def __init__(self, client, call: int, when: str):
        self._client, self._left, self._when = client, call, when

    def __getattr__(self, name):
        method = getattr(self._client, name)

        def call(*arguments, **named):
            self._left -= 1
            if self._left < 0 and self._when == "before":
                raise Interrupted
            answer = method(*arguments, **named)
            if self._left < 0:
                raise Interrupted
            return answer

        return call


@pytest.mark.parametrize("when", ["before", "after"])
def test_registering_that_was_cut_anywhere_is_made_whole_by_the_next(client, onnx_file, when):
    for call in range(20):
        run = client.create_run(client.experiment).info.run_id
        try:
            registry.register(Cut(client, call, when), NAME, onnx_file, toys.images(2), run, {})
        except Interrupted:
            number = registry.register(client, NAME, onnx_file, toys.images(2), run, {})
            assert [found.version for found in client.search_model_versions(f"run_id = '{run}'")] == [int(number)]
            assert aliases(client)["challenger"] == number
        else:
            break
    assert 5 < call < 20


def test_a_version_that_a_lost_answer_made_twice_is_there_once(client, onnx_file):
    run, number = registered(client, onnx_file)
    client.create_model_version(NAME, client.get_model_version(NAME, number).source, run)
    assert registry.register(client, NAME, onnx_file, toys.images(2), run, {}) == number
    assert len(client.search_model_versions(f"run_id = '{run}'")) == 1


def test_the_registered_file_answers_as_the_exported_one_and_names_its_run(client, onnx_file, tmp_path):
    run, number = registered(client, onnx_file)
    found = registry.download(client, NAME, number, tmp_path / "download")
    images = toys.images(5)
    assert np.array_equal(latency.onnx_logits(found, images), latency.onnx_logits(onnx_file, images))
    assert {entry.key: entry.value for entry in onnx.load(found).metadata_props}["mlflow_run_id"] == run


def test_a_version_has_its_lineage_signature_and_example(client, onnx_file):
    from mlflow.models import get_model_info

    run, number = registered(client, onnx_file)
    version = client.get_model_version(NAME, number)
    assert version.tags["row"] == "student" and version.run_id == run
    info = get_model_info(version.source)
    assert info.signature.inputs.input_names() == ["images"]
    assert info.saved_input_example_info


def test_a_crowned_version_is_champion_and_the_one_before_is_remembered(client, onnx_file):
    for number in ("1", "2"):
        registered(client, onnx_file)
        registry.crown(client, NAME, number)
    assert aliases(client) == {"champion": "2", "challenger": "2", "previous": "1"}


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
    assert "fashion 1  champion" in capsys.readouterr().out


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
    with pytest.raises(PipelineError, match=r"registry at http://127\.0\.0\.1:9 does not do it"):
        registry.main()
