import numpy as np

from pipeline.training import devices, inference
from pipeline.training.inference import predict
from tests import toys

IMAGES = toys.images(20)


def logits(precision="fp32", exact=True):
    return predict(toys.classifier(architecture=toys.architecture(precision=precision)), IMAGES, toys.CPU, exact=exact)


def test_predictions_do_not_depend_on_the_batch(monkeypatch):
    whole = logits()
    monkeypatch.setitem(inference.BATCH, "cpu", 7)
    np.testing.assert_allclose(logits(), whole, rtol=1e-4, atol=1e-5)


def test_exact_predictions_of_a_bf16_model_are_those_in_fp32():
    assert np.array_equal(logits("bf16"), logits())
    assert not np.array_equal(logits("bf16", exact=False), logits())


def test_auto_is_one_of_the_two_precisions_as_the_machine_computes():
    expected = "bf16" if devices.computes_in_bf16(toys.CPU) else "fp32"
    assert np.array_equal(logits("auto", exact=False), logits(expected, exact=False))
