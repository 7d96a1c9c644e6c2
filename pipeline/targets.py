"""What students are taught: an ensemble's log-probabilities of every look that its members' caches hold."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline import files, topk
from pipeline.ensemble import Ensemble

CHUNK = 10_000  # samples combined at once


def write(path: Path, teacher: Ensemble, cached: list[np.ndarray], classes: int, top_k: int | None) -> None:
    """Combine the members' cached looks, (looks, samples, ...) each, into one array of the same kind."""
    looks, samples = cached[0].shape[:2]

    def rows() -> Iterator[np.ndarray]:
        for look in range(looks):
            for start in range(0, samples, CHUNK):
                members = [topk.decode(member[look, start : start + CHUNK], classes) for member in cached]
                yield topk.encode(teacher.log_probs(np.stack(members)), top_k)

    dtype, shape = topk.row_type(classes, top_k)
    files.write_chunks(path, (looks, samples, *shape), dtype, rows())
