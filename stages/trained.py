"""What every training stage leaves: weights, a curve, val's scores, its record, and till then a checkpoint."""

from typing import Any

import torch

from pipeline.params import Tracking
from pipeline.project import files, paths
from pipeline.tracking import store
from pipeline.tracking.store import Record
from pipeline.training import models
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.loop import Trained
from pipeline.training.models import Classifier


def checkpoint(name: str, params: dict[str, Any], data: dict[str, str], device: torch.device) -> Checkpoint:
    """What an interrupted training goes on from.

    Args:
        params: all that it depends on, as they are logged. data: the digests of what it reads.
    """
    return Checkpoint(paths.checkpoint(paths.weights(name)), name, store.flatten(params), data, device)


def save(
    name: str,
    model: Classifier,
    trained: Trained,
    record: Record,
    settings: Tracking,
    params: dict[str, Any],
    checkpoint: Checkpoint,
) -> None:
    models.save(model, paths.weights(name))
    files.write_rows(paths.curve(name), trained.curve)
    scores = {**{f"val_{key}": value for key, value in trained.scores.items()}, "parameters": models.parameters(model)}
    files.write_json(paths.model_metrics(name), scores)
    store.log(
        record,
        paths.record(record.stage, record.item),
        settings,
        params=params,
        metrics={**scores, **{f"train_{key}": value for key, value in trained.cost.items()}},
        curve=trained.curve,
        artifacts=[paths.curve(name), paths.model_metrics(name)],
    )
    checkpoint.remove()
