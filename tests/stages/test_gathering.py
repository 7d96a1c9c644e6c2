import shutil

import pytest

from pipeline import params
from stages import gathering
from tests.conftest import CHECKOUT

NAMED = [  # by the params.yaml below
    *("models/teachers/resnet", "data/logits/resnet", "models/exported/teachers/resnet", "models/students/ensemble/0"),
    *("models/exported/students/baseline/0", "runs/train_teacher/resnet.json", "runs/train_baseline/0.json"),
    *("runs/distill/ensemble-0.json", "runs/export_student/ensemble.json", "data/logits/.gitignore"),
    *("reports/curves/resnet.csv", "reports/curves/baseline-0.csv", "reports/curves/ensemble-0.csv"),
]
STALE = [
    *("models/teachers/gone", "data/logits/gone", "models/exported/teachers/gone", "models/students/ensemble/9"),
    *("models/students/from_gone", "models/exported/students/from_gone", "runs/train_teacher/gone.json"),
    *("models/exported/students/ensemble/9", "runs/export_student/from_gone.json"),
    *("runs/cache_logits/gone.json", "runs/export_teacher/gone.json", "runs/train_baseline/9.json"),
    *("runs/distill/from_gone-0.json", "runs/distill/ensemble-9.json"),
    *("reports/curves/gone.csv", "reports/curves/baseline-9.csv", "reports/curves/ensemble-9.csv"),
]
OTHERS = ["models/deployed.onnx", "models/exported/ensemble/model.onnx", "runs/prepare.json"]


@pytest.fixture
def settings(project):
    """The checkout's params, and in the folders that stages gather files of their names, of others, and of no model."""
    shutil.copy(CHECKOUT / "params.yaml", project)
    for name in (*NAMED, *STALE, *OTHERS):
        path = project / name if "." in name.rpartition("/")[2] else project / name / "inside"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return params.load()


def test_what_params_do_not_name_goes_and_the_rest_stays(project, settings):
    gathering.drop_stale(settings)
    assert [name for name in STALE if (project / name).exists()] == []
    assert [name for name in (*NAMED, *OTHERS) if not (project / name).exists()] == []


def test_each_path_that_goes_is_said(settings, capsys):
    gathering.drop_stale(settings)
    said = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in said) == sorted(STALE)
    assert all("params.yaml does not name" in line for line in said)


def test_where_nothing_is_stale_nothing_is_said(settings, capsys):
    gathering.drop_stale(settings)
    capsys.readouterr()
    gathering.drop_stale(settings)
    assert capsys.readouterr().out == ""


def test_before_any_stage_has_run_there_is_nothing_to_drop(project, capsys):
    shutil.copy(CHECKOUT / "params.yaml", project)
    gathering.drop_stale(params.load())
    assert capsys.readouterr().out == ""
