"""All randomness of the project comes from here: `seed` and names in, numbers out, on any machine the same."""

import hashlib

import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """A 32-bit seed for one purpose, a pure function of the experiment's seed and the purpose's names."""
    words = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "little")


def uniform(seed: int, ids: np.ndarray, view: int, draw: int) -> np.ndarray:
    """Uniform numbers in [0, 1) as a pure function of (seed, id, view, draw), one an id.

    A counter-based generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") with the finaliser
    of SplitMix64 (Steele et al. 2014) as its mixing function.

    Args:
        ids: (samples,) any integer type.
    Returns:
        (samples,) float64.
    """
    key = np.uint64(0)
    for word in (seed, view, draw):
        key = _mix(key ^ np.uint64(word))
    return (_mix(_mix(np.asarray(ids).astype(np.uint64) ^ key)) >> np.uint64(11)) * 2.0**-53


def _mix(state: np.ndarray | np.uint64) -> np.ndarray | np.uint64:
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is the point
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
