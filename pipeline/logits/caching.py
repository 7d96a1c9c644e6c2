"""A teacher looks once at every look and writes what it says, and is asked again before it teaches."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from pipeline.logits import topk
from pipeline.project import files
from pipeline.project.data import Split
from pipeline.project.errors import PipelineError
from pipeline.project.randomness import derive
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.folds import fold_of
from pipeline.training.loop import predict
from pipeline.training.models import Classifier
from pipeline.training.prefetch import ahead
from pipeline.training.ranks import ALONE, Ranks
from pipeline.training.views import Looks, render

CHUNK = 2000  # samples rendered, predicted and written at once
CHECKED = 32  # looks that a teacher is asked again
TOLERANCE = 0.1  # of the logits' standard deviation: bf16 in batches of another size may differ by some 0.01


def cache(
    path: Path,
    teachers: Sequence[Classifier],
    split: Split,
    looks: Looks | None,
    *,
    top_k: int | None,
    device: torch.device,
    name: str,
    seed: int = 0,
    ranks: Ranks = ALONE,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Write the logits of one split: of each look that training replays, in the model's own precision.

    With a checkpoint, `path` grows and is whole when this returns; without one, it is whole or not there. Ranks ask in
    turn, chunk by chunk; the first one writes.

    Args:
        teachers: one, or one a fold, in order, each of which is asked about the images of its fold alone.
        seed: `seed` of params.yaml, of the folds.
        looks: which, or None: the clean images, in fp32, computed as the exported model does.
    """
    views = range(looks.count) if looks else (None,)
    parts = [(view, start) for view in views for start in range(0, len(split), CHUNK)]

    def pixels(first: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for view, start in parts[first + ranks.number :: ranks.world]:
            ids = np.arange(start, min(start + CHUNK, len(split)))
            images = split.images[ids] if view is None else render(split.images, ids, view, looks.seed, looks.spec)
            yield images, ids

    def answers(first: int) -> Iterator[np.ndarray]:
        for images, ids in ahead(pixels(first), device):
            yield topk.encode(ask(teachers, images, ids, device, seed, exact=looks is None), top_k)
            files.forget(split.images)

    def rows(first: int = 0) -> Iterator[np.ndarray]:
        first = ranks.of_first(first)
        joined = ranks.in_turn(answers(first), len(parts) - first)
        yield from tqdm(joined, name, initial=first, total=len(parts), leave=False,
                        disable=None if ranks.first else True)  # fmt: skip

    dtype, shape = topk.row_type(len(teachers[0].info.classes), top_k)
    shape = (len(views), len(split), *shape)
    if not ranks.first:
        for _ in rows():  # which the first one writes
            pass
    elif checkpoint:
        checkpoint.grow(path, shape, dtype, rows)
    else:
        files.write_chunks(path, shape, dtype, rows())


def ask(
    teachers: Sequence[Classifier], images: np.ndarray, ids: np.ndarray, device: torch.device, seed: int, *, exact: bool
) -> np.ndarray:
    """(samples, classes) float32 logits of these images, each by the teacher that did not learn from it.

    Args:
        teachers, seed: as for `cache`. ids: (samples,) the images' positions in the split.
    """
    if len(teachers) == 1:
        return predict(teachers[0], images, device, exact=exact)
    fold, logits = fold_of(ids, len(teachers), seed), np.empty((len(ids), len(teachers[0].info.classes)), np.float32)
    for number in np.unique(fold):
        logits[fold == number] = predict(teachers[number], images[fold == number], device, exact=exact)
    return logits


def check(
    teachers: Sequence[Classifier],
    split: Split,
    cached: np.ndarray,
    looks: Looks,
    device: torch.device,
    path: Path,
    seed: int = 0,
) -> None:
    """Ask the teacher again about a few of the cached looks at train; another answer is a PipelineError."""
    random = np.random.default_rng(derive(looks.seed, "check"))
    for view in random.integers(0, looks.count, CHECKED // 8):
        ids = random.integers(0, len(split), 8)
        pixels = render(split.images, ids, int(view), looks.seed, looks.spec)
        again, rows = ask(teachers, pixels, ids, device, seed, exact=False), cached[view, ids]
        tolerance, known = TOLERANCE * again.std(), rows
        if rows.dtype.names:
            known, again = rows["logits"], np.take_along_axis(again, rows["classes"].astype(np.int64), axis=1)
        wrong = (np.abs(again - known) > tolerance).any(axis=1)
        if wrong.any():
            raise PipelineError(
                f"{path} does not hold what its teacher says: look {view} at training image {ids[wrong][0]} "
                f"differs; delete the file and run `dvc repro`."
            )
