"""INT8 of families that lose in it, trained on the digits of scikit-learn: what random weights would not show."""

from dataclasses import replace

import pytest
import torch
from sklearn.datasets import load_digits

from pipeline.deployment import export, latency, quantisation
from pipeline.deployment.choice import Candidate, decide
from pipeline.params import Deploy
from pipeline.project.data import Info
from tests import toys

pytestmark = pytest.mark.long
SIZE, TRAIN, EPOCHS, BATCH = 32, 1300, 8, 64
INFO = Info([str(digit) for digit in range(10)], SIZE, [0.3], [0.35], {})


@pytest.fixture(scope="module")
def digits():
    """Images enlarged to 32 pixels, and labels."""
    images, labels = load_digits(return_X_y=True)
    small = torch.from_numpy(images.reshape(-1, 1, 8, 8) * 15.9375).float()
    large = torch.nn.functional.interpolate(small, (SIZE, SIZE), mode="bilinear")
    return large.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous(), torch.from_numpy(labels)


def trained(name, stride, images, labels):
    model = toys.classifier(
        architecture=toys.architecture(model=name, kwargs={}, stem_stride=stride), info=INFO
    ).train()
    steps = EPOCHS * (TRAIN // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.004)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.004, total_steps=steps)
    for step in range(steps):
        if step % (TRAIN // BATCH) == 0:
            order = torch.randperm(TRAIN)
        rows = order[(step % (TRAIN // BATCH)) * BATCH :][:BATCH]
        torch.nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return model.eval()


@pytest.mark.parametrize(
    ("name", "stride"), [("mobilenetv3_small_050", 1), ("test_efficientnet", 1), ("efficientvit_b0", None)]
)
def test_int8_keeps_what_the_model_has_learned_or_never_ships(name, stride, digits, tmp_path):
    images, labels = digits
    export.to_onnx(trained(name, stride, images, labels), tmp_path / "fp32.onnx")
    train, val = images[:TRAIN].numpy(), images[TRAIN:].numpy()
    int8 = quantisation.to_int8(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", train[:1000])
    right = {
        kind: float(
            (latency.onnx_logits(tmp_path / f"{kind}.onnx", val).argmax(axis=1) == labels[TRAIN:].numpy()).mean()
        )
        for kind in ("fp32", "int8")
    }
    loss = right["fp32"] - right["int8"]
    print(f"{name}: {100 * right['fp32']:.1f} % in fp32, {100 * right['int8']:.1f} % in INT8; {int8}")
    assert right["fp32"] > 0.9
    exact = Candidate("fp32", "student", right["fp32"], right["fp32"], p95_ms=1.0, size_mb=1.0, memory_mb=1.0)
    quick = replace(exact, name="int8", kind="int8", accuracy=right["int8"], p95_ms=0.5, int8_loss=loss)
    limits = {"p95_ms": None, "size_mb": None, "memory_mb": None, "accuracy": None}
    deploy = Deploy(name="x", constraints=limits, tolerance=1.0, int8_max_loss=0.01)
    assert decide([exact, quick], deploy)[0].name == ("int8" if loss <= 0.01 else "fp32")
