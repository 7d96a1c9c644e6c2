"""A teacher answers once for every view, writes what it says, and is asked again before it teaches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pipeline.logits import topk
from pipeline.project import files
from pipeline.project.data import Split
from pipeline.project.errors import PipelineError
from pipeline.project.randomness import derive
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.folds import fold_of
from pipeline.training.inference import predict
from pipeline.training.models import Classifier
from pipeline.training.prefetch import ahead
from pipeline.training.ranks import ALONE, Ranks
from pipeline.training.views import Views, render

CHUNK = 2000  # samples rendered, predicted and written at once
CHECKED = 32  # views that a teacher is asked about again
TOLERANCE = 0.1  # of the logits' standard deviation: bf16 in batches of another size may differ by some 0.01


@dataclass(frozen=True)
class Labeller:
    """Who answers for a teacher: its model, or a model a fold, each asked about the images of its fold alone.

    seed: `seed` of params.yaml, which decides the folds.
    """

    models: Sequence[Classifier]
    device: torch.device
    seed: int

    @property
    def classes(self) -> int:
        return len(self.models[0].info.classes)

    @property
    def size(self) -> int:
        """Of the images, pixels a side."""
        return self.models[0].info.image_size

    def ask(self, images: np.ndarray | Tensor, ids: np.ndarray, *, exact: bool) -> np.ndarray:
        """(samples, classes) float32 logits of these images.

        Args:
            ids: (samples,) the images' positions in the split. exact: as of pipeline.training.inference.predict.
        """
        if len(self.models) == 1:
            return predict(self.models[0], images, self.device, exact=exact)
        fold = fold_of(ids, len(self.models), self.seed)
        logits = np.empty((len(ids), self.classes), np.float32)
        for number in np.unique(fold):
            logits[fold == number] = predict(self.models[number], images[fold == number], self.device, exact=exact)
        return logits


def cache(
    path: Path,
    labeller: Labeller,
    split: Split,
    views: Views | None,
    *,
    top_k: int | None,
    name: str,
    ranks: Ranks = ALONE,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Write the logits of one split: of each view that training replays, in the model's own precision.

    With a checkpoint, `path` grows and is whole when this returns; without one, it is whole or not there. Ranks ask in
    turn, chunk by chunk; the first one writes.

    Args:
        views: which, or None: the clean images, in fp32, computed as the exported model does.
    """
    numbers = range(views.count) if views else (None,)
    parts = [(number, start) for number in numbers for start in range(0, len(split), CHUNK)]

    def pixels(first: int) -> Iterator[tuple[np.ndarray | Tensor, np.ndarray]]:
        for number, start in parts[first + ranks.number :: ranks.world]:
            ids = np.arange(start, min(start + CHUNK, len(split)))
            if number is None:
                yield split.images[ids], ids
            else:
                yield render(split, ids, number, views, labeller.size, labeller.device), ids

    def answers(first: int) -> Iterator[np.ndarray]:
        for images, ids in ahead(pixels(first), labeller.device):
            yield topk.encode(labeller.ask(images, ids, exact=views is None), top_k)
            files.forget(split.images)

    def rows(first: int = 0) -> Iterator[np.ndarray]:
        first = ranks.broadcast(first)
        joined = ranks.interleave(answers(first), len(parts) - first)
        yield from tqdm(joined, name, initial=first, total=len(parts), leave=False,
                        disable=None if ranks.first else True)  # fmt: skip

    dtype, shape = topk.row_type(labeller.classes, top_k)
    shape = (len(numbers), len(split), *shape)
    if not ranks.first:
        for _ in rows():  # which the first one writes
            pass
    elif checkpoint:
        checkpoint.grow(path, shape, dtype, rows)
    else:
        files.write_chunks(path, shape, dtype, rows())


def check(labeller: Labeller, split: Split, cached: np.ndarray, views: Views, path: Path) -> None:
    """Ask the teacher again about a few of the cached views of train; another answer is a PipelineError."""
    random = np.random.default_rng(derive(views.seed, "check"))
    for view in random.integers(0, views.count, CHECKED // 8):
        ids = random.integers(0, len(split), 8)
        seen = render(split, ids, int(view), views, labeller.size, labeller.device)
        again, rows = labeller.ask(seen, ids, exact=False), cached[view, ids]
        tolerance, known = TOLERANCE * again.std(), rows
        if rows.dtype.names:
            known, again = rows["logits"], np.take_along_axis(again, rows["classes"].astype(np.int64), axis=1)
        wrong = (np.abs(again - known) > tolerance).any(axis=1)
        if wrong.any():
            raise PipelineError(
                f"{path} does not hold what its teacher says: view {view} of training image {ids[wrong][0]} "
                f"differs; delete the file and run `dvc repro`."
            )
