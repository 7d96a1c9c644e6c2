import numpy as np

from pipeline.training import folds


def test_folds_are_of_about_equal_size_and_every_id_is_in_one():
    assigned = folds.fold_of(np.arange(30_000), 3, seed=0)
    assert set(assigned) == {0, 1, 2} and np.bincount(assigned).min() > 9700


def test_the_fold_of_an_id_does_not_depend_on_the_others():
    every = folds.fold_of(np.arange(100), 5, seed=7)
    assert np.array_equal(folds.fold_of(np.array([40, 3]), 5, seed=7), every[[40, 3]])
    assert not np.array_equal(folds.fold_of(np.arange(100), 5, seed=8), every)
