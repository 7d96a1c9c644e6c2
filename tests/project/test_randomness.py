import hashlib
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from pipeline.project.randomness import derive, uniform
from tests.conftest import CHECKOUT, run

WORD = 2**64


def mixed(state):
    """SplitMix64's finaliser in Python's unbounded integers."""
    state = (state + 0x9E3779B97F4A7C15) % WORD
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % WORD
    return state ^ (state >> 31)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 10**6), st.integers(0, 1000), st.integers(0, 5))
def test_uniform_agrees_with_unbounded_integers(seed, sample, view, draw):
    key = mixed(mixed(mixed(seed) ^ view) ^ draw)
    expected = (mixed(mixed(sample ^ key)) >> 11) / 2**53
    assert uniform(seed, np.array([sample]), view, draw)[0] == expected


def test_derive_is_four_bytes_of_the_digest_of_the_names():
    digest = hashlib.sha256(b"3/student/1").digest()
    assert derive(3, "student", 1) == sum(digest[i] * 256**i for i in range(4))


def test_derive_is_the_same_in_another_process():
    code = "from pipeline.project.randomness import derive; print(derive(5, 'views'))"
    assert int(run(sys.executable, "-c", code, cwd=CHECKOUT).stdout) == derive(5, "views")


def test_derive_tells_purposes_and_seeds_apart():
    seeds = [derive(seed, purpose, number) for seed in range(10) for purpose in ("order", "views") for number in (0, 1)]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("vary", ["seed", "ids", "view", "draw"])
def test_uniform_numbers_are_uniform_along_every_argument(vary):
    fixed = {"seed": 7, "ids": np.array([3]), "view": 1, "draw": 2}
    if vary == "ids":
        numbers = uniform(**{**fixed, "ids": np.arange(4000)})
    else:
        numbers = np.array([uniform(**{**fixed, vary: value})[0] for value in range(4000)])
    assert kstest(numbers, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("other", [{"seed": 1}, {"view": 1}, {"draw": 1}])
def test_streams_are_uncorrelated(other):
    fixed = {"seed": 0, "ids": np.arange(5000), "view": 0, "draw": 0}
    assert abs(np.corrcoef(uniform(**fixed), uniform(**{**fixed, **other}))[0, 1]) < 0.06


def test_uniform_does_not_depend_on_the_integer_type_of_ids():
    ids = np.arange(100)
    assert np.array_equal(uniform(0, ids.astype(np.int32), 0, 0), uniform(0, ids.astype(np.uint64), 0, 0))
