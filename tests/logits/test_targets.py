import numpy as np
import pytest
from scipy.special import softmax

from pipeline.ensembles.ensemble import Ensemble
from pipeline.logits import targets, topk
from pipeline.params import Distill
from pipeline.project.errors import PipelineError
from tests import toys

CACHED = [np.random.default_rng(seed).normal(0, 2, (2, 25, 4)).astype(np.float16) for seed in (0, 1)]
TEACHER = Ensemble("weighted", ["one", "two"], [0.3, 0.7], [1.5, 0.8])


@pytest.mark.parametrize("chunk", [10, 100])
def test_targets_are_the_ensembles_log_probabilities_of_every_view(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(targets, "CHUNK", chunk)
    targets.write(tmp_path / "ensemble.npy", TEACHER.log_probs, TEACHER.temperatures, CACHED, 4, None)
    written = np.load(tmp_path / "ensemble.npy")
    assert (written.dtype, written.shape) == (np.float16, (2, 25, 4))
    for view in range(2):
        expected = TEACHER.log_probs(np.stack([member[view] for member in CACHED]).astype(np.float64))
        np.testing.assert_allclose(written[view], expected, rtol=1e-3, atol=1e-3)


def test_targets_of_top_k_caches_are_top_k_too(tmp_path):
    encoded = [np.stack([topk.encode(view, 2) for view in member]) for member in CACHED]
    targets.write(tmp_path / "ensemble.npy", TEACHER.log_probs, TEACHER.temperatures, encoded, 4, 3)
    written = np.load(tmp_path / "ensemble.npy")
    assert written.shape == (2, 25)
    probabilities = np.exp(topk.decode(written[1], 4))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=2e-3)


def test_top_k_members_are_read_at_their_own_temperatures(tmp_path):
    """The mass of the rest, at the temperature that the ensemble divides by, not at 1."""
    logits = np.random.default_rng(3).normal(0, 1.5, (1, 200, 300)).astype(np.float32)
    logits[..., :5] += 6
    alone = Ensemble("alone", ["one"], [1.0], [2.5])
    encoded = topk.encode(logits[0], 5)[None]
    targets.write(tmp_path / "one.npy", alone.log_probs, alone.temperatures, [encoded], 300, 5)
    read = np.exp(topk.decode(np.load(tmp_path / "one.npy")[0], 300))
    expected = np.exp(alone.log_probs(logits))
    np.testing.assert_allclose(read[:, :5].sum(axis=1), expected[:, :5].sum(axis=1), atol=0.05)
    assert (read[:, :5].sum(axis=1) - expected[:, :5].sum(axis=1)).mean() == pytest.approx(0, abs=0.005)


def test_a_student_of_soft_ce_reads_the_rest_with_its_own_mass():
    logits = np.random.default_rng(4).normal(0, 2, (1, 50, 20)).astype(np.float16).astype(np.float32)
    distill = toys.block(Distill, "distill", sources=["single"], objective="soft_ce", temperature=4.0)
    rows = topk.encode(logits[0], 5)[None]
    read = targets.reader(rows, (1, 50, 20), distill.target_temperature)(0, np.arange(50))
    top = np.argsort(-logits[0], axis=1)[:, :5]
    masses = [np.take_along_axis(softmax(each, axis=1), top, axis=1).sum(axis=1) for each in (read, logits[0])]
    np.testing.assert_allclose(*masses, atol=2e-3)


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
