import shutil
import sys

import pytest
import torch

from pipeline.deployment import families, tryout
from pipeline.project.errors import PipelineError
from stages import trying
from tests import toys
from tests.conftest import CHECKOUT, run

UNKNOWN = "timm has no model `no_such_net`"


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ({"model": "resnet50"}, True),
        ({"model": "tf_efficientnet_b3"}, True),
        ({"model": None, "backbone": "hf-hub:timm/mobilenetv3_small_100.lamb_in1k"}, True),
        ({"model": None, "backbone": "resnet18.a1_in1k"}, True),
        ({"model": "resnetv2_50"}, False),
        ({"model": "coat_lite_tiny"}, False),
        ({"model": None, "backbone": "local-dir:/srv/resnet18"}, False),
    ],
)
def test_a_family_is_known_by_the_names_of_its_members(given, known):
    assert families.known(toys.architecture(**given)) is known


def test_what_is_tried_is_all_that_the_stages_do():
    trial = tryout.tried(toys.ARCHITECTURE, toys.INFO)
    model = toys.classifier()
    assert trial.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert trial.multiply_adds > 0 and trial.difference < 1e-4


def test_a_model_that_can_not_be_exported_is_told_before_it_trains(monkeypatch):
    model = toys.classifier()

    class Odd(torch.nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net, self.get_classifier = net, net.get_classifier

        def forward(self, pixels):
            return self.net(pixels) + torch.linalg.eigvalsh(pixels[:, :1, :2, :2].detach()).mean()  # no operator

    model.net = Odd(model.net)
    monkeypatch.setattr(tryout.models, "build", lambda *_: model)
    with pytest.raises(PipelineError, match="`test_resnet` can't be exported to ONNX: "):
        tryout.tried(toys.ARCHITECTURE, toys.INFO)


@pytest.fixture
def root(tmp_path):
    for package in ("pipeline", "stages"):
        (tmp_path / package).symlink_to(CHECKOUT / package)
    shutil.copy(CHECKOUT / "profiles/smoke.yaml", tmp_path / "params.yaml")
    return tmp_path


def change(root, model):
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("{model: test_resnet, kwargs: {channels: [8, 8, 12, 16]}", model))


@pytest.mark.long
def test_make_repro_tries_what_is_of_no_known_family_and_refuses_it_before_anything_runs(root):
    change(root, "{model: no_such_net")
    result = run(sys.executable, "-m", "stages.parallel", cwd=root)
    assert result.returncode == 1 and UNKNOWN in result.stdout and "Running" not in result.stdout
    assert result.stderr.splitlines()[-1].startswith("error: student can't be used"), result.stderr


@pytest.mark.long
def test_what_was_tried_once_is_not_tried_again(root, monkeypatch, capfd):
    monkeypatch.chdir(root)
    tried = toys.settings(student={"model": "resnetv2_18", "kwargs": {"channels": [4, 8, 8, 16]}, "epochs": 1,
                                   "batch_size": 8, "lr": 0.01})  # fmt: skip
    change(root, "{model: resnetv2_18, kwargs: {channels: [4, 8, 8, 16]}")
    trying.check(tried)
    assert "student: 0.0" in capfd.readouterr().out
    trying.check(tried)
    assert capfd.readouterr().out == ""


def test_known_families_are_not_tried(root, monkeypatch, capfd):
    monkeypatch.chdir(root)
    trying.check(toys.settings())
    assert capfd.readouterr().out == "" and not trying.TRIED.exists()
