from pathlib import Path

import numpy as np
import pytest

from pipeline.deployment import parity
from pipeline.project.errors import PipelineError
from pipeline.scoring import metrics


def of(changed, images=5000):
    logits = np.tile([0.0, 1.0], (images, 1))
    other = logits.copy()
    other[:changed] = other[:changed, ::-1]
    return metrics.agreement(logits, other)


@pytest.mark.parametrize(("changed", "images"), [(0, 5000), (5, 5000), (1, 100)])
def test_up_to_a_decision_in_a_thousand_may_be_another(changed, images):
    parity.check(Path("model.onnx"), of(changed, images))


@pytest.mark.parametrize(("changed", "images"), [(6, 5000), (2, 100)])
def test_a_file_that_decides_otherwise_is_refused_in_a_sentence(changed, images):
    with pytest.raises(PipelineError, match=rf"model\.onnx is another model.*{changed} of {images} decisions on val"):
        parity.check(Path("model.onnx"), of(changed, images))


def test_logits_that_are_no_numbers_are_refused():
    nothing = metrics.agreement(np.zeros((5, 2)), np.full((5, 2), np.nan))
    with pytest.raises(PipelineError, match="by up to nan"):
        parity.check(Path("model.onnx"), nothing)
