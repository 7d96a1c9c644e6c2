import numpy as np
import pytest

from pipeline.ensembles import ensemble, fitting
from pipeline.logits import topk
from pipeline.project import data, paths
from pipeline.project.data import UNLABELLED
from stages import fit_ensemble
from tests import toys


@pytest.mark.parametrize("top_k", [None, 3])
@pytest.mark.parametrize("mixup", [0.0, 0.5])
def test_labels_by_fold_teachers_have_temperatures_of_their_own(project, top_k, mixup):
    """By labelled images of train alone: of those without a label, logits are noise here."""
    random, samples, classes = np.random.default_rng(0), 800, 6
    labels = np.where(np.arange(samples) < 600, np.arange(samples) % classes, UNLABELLED)
    logits = random.normal(0, 2, (samples, classes))
    logits[np.arange(600), labels[:600]] += 2
    logits[600:] *= 50
    positions = {"train": np.arange(samples)}
    names = [str(number) for number in range(classes)]
    info = data.save(np.zeros((samples, 8, 8, 1), np.uint8), labels, names, positions, paths.PREPARED)
    rows = topk.encode(logits, top_k)[None]
    settings = toys.settings(student_views={"count": 1, "mixup": mixup}, cross_fit={"folds": 2})
    given = fit_ensemble._of_fold_teachers(ensemble.alone("one", 7.0), [rows], settings, info)
    if mixup == 0:
        expected = fitting.fit_temperature(logits[:600], labels[:600])
        assert given.temperatures[0] == pytest.approx(expected, rel=1e-2 if top_k is None else 0.1)
    assert given.temperatures[0] != 7.0 and given.temperature == 1.0
