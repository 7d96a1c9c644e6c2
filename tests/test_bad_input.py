"""What a user can get wrong: one sentence on stderr, exit status 1, nothing written, no traceback."""

import shutil
import sys

import pytest

from tests.conftest import CHECKOUT, run


@pytest.fixture
def project(tmp_path):
    for name in ("pipeline", "stages"):
        shutil.copytree(CHECKOUT / name, tmp_path / name)
    shutil.copy(CHECKOUT / "params.yaml", tmp_path)
    for name in ("images", "unlabelled"):
        (tmp_path / "data" / name).mkdir(parents=True)
    smoke = CHECKOUT / "profiles/smoke.yaml"
    shutil.copy(CHECKOUT / "dvc.yaml", tmp_path)
    assert run(sys.executable, "-m", "stages.wiring", "--profile", str(smoke), cwd=tmp_path).returncode == 0
    return tmp_path


def change(project, old, new):
    text = (project / "params.yaml").read_text()
    assert text.count(old) == 1, old
    (project / "params.yaml").write_text(text.replace(old, new))


def refused(project, *words) -> str:
    before = sorted(path for path in project.rglob("*") if "__pycache__" not in path.parts)
    result = run(sys.executable, "-m", *words, cwd=project)
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stderr.startswith("error: ") and "Traceback" not in result.stderr, result.stderr
    assert sorted(path for path in project.rglob("*") if "__pycache__" not in path.parts) == before
    return result.stderr


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("  temperature:", "  temprature:", "did you mean `temperature`?"),
        ("source: digits", "source: cifar", "`data.source`"),
        ("val_fraction: 0.25", "val_fraction: 1", "`data.val_fraction`"),
        ("val_fraction: 0.25", "val_fraction: 0.001", "`data.val_fraction`"),
        ("source: digits", "source: image_folder", "data/images"),
        ("unlabelled: data/unlabelled", "unlabelled: data/nowhere", "`data.unlabelled`"),
        ("train_samples: null", "train_samples: 3", "`data.train_samples`"),
    ],
)
def test_prepare_refuses(project, old, new, sentence):
    change(project, old, new)
    assert sentence in refused(project, "stages.prepare")


@pytest.fixture
def prepared(project, digits):
    shutil.copytree(digits / "data/prepared", project / "data/prepared")
    return project


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("model: test_efficientnet", "model: test_eficientnet", "test_efficientnet"),
        ("{channels: [8, 16, 16, 32]}", "{chanels: [8]}", "chanels"),
        ("epochs: 3, batch_size: 64, lr: 0.01", "epochs: 3, batch_size: 64, lr: 1.0e+30", "diverged"),
    ],
)
def test_training_refuses(prepared, old, new, sentence):
    change(prepared, old, new)
    name = "efficientnet" if "efficientnet" in old else "resnet"
    assert sentence in refused(prepared, "stages.train_teacher", name)


def test_training_refuses_an_unknown_teacher(prepared):
    assert "`nobody`" in refused(prepared, "stages.train_teacher", "nobody")


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda content: content[:-1] + b"\x07"])
def test_a_damaged_array_is_refused(prepared, damage):
    path = prepared / "data/prepared/train_images.npy"
    path.chmod(0o644)
    path.write_bytes(damage(path.read_bytes()))
    assert "train_images.npy" in refused(prepared, "stages.train_baseline", "0")


@pytest.fixture
def cached(prepared, digits):
    for name in ("data/logits", "models", "metrics"):
        shutil.copytree(digits / name, prepared / name)
    shutil.copy(digits / "params.yaml", prepared)
    return prepared


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("budget_ms: null", "budget_ms: 0.0001", "`ensemble.budget_ms` is 0.0001, but even the fastest"),
        ("folds: 3", "folds: 90", "`ensemble.folds` is 90, but a class has only"),
    ],
)
def test_choosing_an_ensemble_refuses(cached, old, new, sentence):
    change(cached, old, new)
    assert sentence in refused(cached, "stages.fit_ensemble")


def test_a_missing_profile_is_refused(project):
    assert "nowhere.yaml" in refused(project, "stages.wiring", "--profile", "nowhere.yaml")


def test_a_teacher_that_was_not_wired_is_refused_with_the_command_that_wires_it(prepared, digits):
    (prepared / "models").mkdir()
    for name in ("resnet", "efficientnet"):
        shutil.copy(digits / "models/efficientnet.onnx", prepared / f"models/{name}.onnx")
    change(
        prepared, "\nensemble:\n", "\n  new: {model: test_resnet, epochs: 1, batch_size: 64, lr: 0.01}\n\nensemble:\n"
    )
    sentence = refused(prepared, "stages.time_members")
    assert "models/new.onnx is missing" in sentence and "`make wire`" in sentence
