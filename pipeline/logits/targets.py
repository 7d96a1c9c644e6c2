"""What students are taught: an ensemble's log-probabilities of every view that its members' caches hold."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from pipeline.logits import topk
from pipeline.project import files
from pipeline.project.errors import PipelineError

CHUNK = 10_000  # samples combined at once


def write(
    path: Path,
    teacher: Callable[[np.ndarray], np.ndarray],
    temperatures: list[float],
    cached: list[np.ndarray],
    classes: int,
    top_k: int | None,
) -> None:
    """Combine the members' cached views, (views, samples, ...) each, into one array of the same kind.

    Args:
        teacher: (members, samples, classes) logits to (samples, classes), as Ensemble.log_probs.
        temperatures: by which it divides each member's; see pipeline.logits.topk.decode.
    """
    views, samples = cached[0].shape[:2]

    def rows() -> Iterator[np.ndarray]:
        for view in range(views):
            for start in range(0, samples, CHUNK):
                parts = [member[view, start : start + CHUNK] for member in cached]
                members = [topk.decode(part, classes, t) for part, t in zip(parts, temperatures, strict=True)]
                yield topk.encode(teacher(np.stack(members)), top_k)

    dtype, shape = topk.row_type(classes, top_k)
    files.write_chunks(path, (views, samples, *shape), dtype, rows())


def reader(
    rows: np.ndarray, shape: tuple[int, int, int], temperature: float
) -> Callable[[int, np.ndarray], np.ndarray]:
    """A function of (view, ids) that gives the (batch, classes) float32 logits that a student is taught.

    Args:
        rows: what `write` wrote. shape: the (views, samples, classes) that `student_views` and the data need.
        temperature: that the objective takes; see pipeline.logits.topk.decode.
    Raises:
        PipelineError: the rows are for other views, samples or classes.
    """
    classes = shape[2]
    have = rows.shape if rows.dtype.names is None else (*rows.shape, classes)
    if have != shape:
        raise PipelineError(
            f"The targets have shape {have}, but `student_views` and the data need {shape}; run `dvc repro`."
        )

    def read(view: int, ids: np.ndarray) -> np.ndarray:
        logits = topk.decode(rows[view][ids], classes, temperature)
        files.forget(rows)
        return logits

    return read
