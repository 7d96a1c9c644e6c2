import numpy as np
import pytest

from pipeline.ensembles.ensemble import Ensemble
from pipeline.logits import targets, topk

CACHED = [np.random.default_rng(seed).normal(0, 2, (2, 25, 4)).astype(np.float16) for seed in (0, 1)]
TEACHER = Ensemble("weighted", ["one", "two"], [0.3, 0.7], [1.5, 0.8])


@pytest.mark.parametrize("chunk", [10, 100])
def test_targets_are_the_ensembles_log_probabilities_of_every_look(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(targets, "CHUNK", chunk)
    targets.write(tmp_path / "ensemble.npy", TEACHER.log_probs, CACHED, 4, None)
    written = np.load(tmp_path / "ensemble.npy")
    assert (written.dtype, written.shape) == (np.float16, (2, 25, 4))
    for look in range(2):
        expected = TEACHER.log_probs(np.stack([member[look] for member in CACHED]).astype(np.float64))
        np.testing.assert_allclose(written[look], expected, rtol=1e-3, atol=1e-3)


def test_targets_of_top_k_caches_are_top_k_too(tmp_path):
    encoded = [np.stack([topk.encode(look, 2) for look in member]) for member in CACHED]
    targets.write(tmp_path / "ensemble.npy", TEACHER.log_probs, encoded, 4, 3)
    written = np.load(tmp_path / "ensemble.npy")
    assert written.shape == (2, 25)
    probabilities = np.exp(topk.decode(written[1], 4))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=2e-3)
