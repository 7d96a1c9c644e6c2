import numpy as np
import pytest

from pipeline.ensembles.ensemble import Ensemble
from pipeline.logits import targets, topk
from pipeline.project.errors import PipelineError

CACHED = [np.random.default_rng(seed).normal(0, 2, (2, 25, 4)).astype(np.float16) for seed in (0, 1)]
TEACHER = Ensemble("weighted", ["one", "two"], [0.3, 0.7], [1.5, 0.8])


@pytest.mark.parametrize("chunk", [10, 100])
def test_targets_are_the_ensembles_log_probabilities_of_every_view(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(targets, "CHUNK", chunk)
    targets.write(tmp_path / "ensemble.npy", TEACHER.log_probs, CACHED, 4, None)
    written = np.load(tmp_path / "ensemble.npy")
    assert (written.dtype, written.shape) == (np.float16, (2, 25, 4))
    for view in range(2):
        expected = TEACHER.log_probs(np.stack([member[view] for member in CACHED]).astype(np.float64))
        np.testing.assert_allclose(written[view], expected, rtol=1e-3, atol=1e-3)


def test_targets_of_top_k_caches_are_top_k_too(tmp_path):
    encoded = [np.stack([topk.encode(view, 2) for view in member]) for member in CACHED]
    targets.write(tmp_path / "ensemble.npy", TEACHER.log_probs, encoded, 4, 3)
    written = np.load(tmp_path / "ensemble.npy")
    assert written.shape == (2, 25)
    probabilities = np.exp(topk.decode(written[1], 4))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=2e-3)


WHOLE = np.stack([np.random.default_rng(2).normal(0, 2, (25, 4)).astype(np.float16) for _ in range(2)])


def test_a_student_reads_the_logits_of_the_view_and_the_samples_that_it_sees():
    ids = np.array([7, 0, 24])
    rows = targets.reader(WHOLE, (2, 25, 4), temperature=3.0)(1, ids)
    assert rows.dtype == np.float32 and np.array_equal(rows, WHOLE[1, ids])


def test_a_student_reads_top_k_rows_for_its_temperature():
    rows, ids = np.stack([topk.encode(view.astype(np.float32), 2) for view in WHOLE]), np.array([7, 0, 24])
    read = {temperature: targets.reader(rows, (2, 25, 4), temperature)(1, ids) for temperature in (1.0, 4.0)}
    assert np.array_equal(read[4.0], topk.decode(rows[1][ids], 4, 4.0)) and not np.array_equal(read[4.0], read[1.0])


@pytest.mark.parametrize("shape", [(1, 25, 4), (2, 24, 4), (2, 25, 5)])
def test_targets_of_another_shape_are_refused_with_both_shapes(shape):
    with pytest.raises(PipelineError, match=r"need \(2, 25, 4\)") as refused:
        targets.reader(np.zeros(shape, np.float16), (2, 25, 4), 1.0)
    assert str(shape) in str(refused.value)
