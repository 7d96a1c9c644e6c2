"""What the three training stages share: what they open, and what they leave."""

from dataclasses import dataclass, field
from typing import Any

import torch

from pipeline.params import Model, Params, flatten
from pipeline.project import data, files, paths
from pipeline.project.data import Info, Split
from pipeline.tracking import store
from pipeline.tracking.store import Record
from pipeline.training import losses, models, ranks
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.loop import Lesson, Trained, Trainer
from pipeline.training.ranks import Ranks


@dataclass(frozen=True)
class Room:
    """The data and the device. label_weights: (classes,) of the labels' loss, or None."""

    settings: Params
    info: Info
    train: Split
    val: Split
    ranks: Ranks
    device: torch.device
    label_weights: torch.Tensor | None


def enter(settings: Params) -> Room:
    together, device = ranks.start(settings.compute)
    info, train, val = data.open_info(paths.PREPARED), *(data.open_split(paths.PREPARED, s) for s in ("train", "val"))
    weights = losses.class_weights(settings.loss.class_weights, train.labels, len(info.classes))
    return Room(settings, info, train, val, together, device, weights)


@dataclass(frozen=True)
class Job:
    """One model to train.

    seed: of the initial weights and the order of samples. params: what it depends on beside `model`, `loss` and
    `compute`. reads: digests of what it reads beside the prepared images.
    """

    name: str
    model: Model
    seed: int
    lesson: Lesson
    params: dict[str, Any]
    reads: dict[str, str] = field(default_factory=dict)


def train_and_save(room: Room, job: Job, record: Record | None, **more: float) -> tuple[Trained, Checkpoint]:
    """Train from the job's checkpoint or from the beginning, and write weights, curve, scores and the record.

    The caller removes the checkpoint when every output of its stage is there.

    Args:
        record: None writes the weights alone. more: metrics for the record.
    """
    logged = {"loss": room.settings.loss, "compute": room.settings.compute, "model": job.model, **job.params}
    digests = room.info.sha256 | job.reads
    checkpoint = Checkpoint(paths.checkpoint(paths.weights(job.name)), job.name, flatten(logged), digests, room.device)
    torch.manual_seed(job.seed)
    model = models.build(job.model, room.info)
    trainer = Trainer(model, job.model, job.lesson, room.device, seed=job.seed, name=job.name, ranks=room.ranks)
    trained = trainer.fit(room.val, checkpoint, compiled=room.settings.compute.compile)
    if room.ranks.first:
        models.save(model, paths.weights(job.name))
    if room.ranks.first and record:
        curve, scores = paths.curve(job.name), paths.model_scores(job.name)
        worth = {f"val_{key}": value for key, value in trained.scores.items()}
        worth["parameters"] = models.parameters(model)
        files.write_rows(curve, trained.curve)
        files.write_json(scores, worth)
        files.write_array(paths.model_answers(job.name), trained.answers)
        store.log(
            record,
            paths.record(record.stage, record.item),
            room.settings.tracking,
            params=logged,
            metrics=worth | more | {f"train_{key}": value for key, value in trained.cost.items()},
            curve=trained.curve,
            artifacts=[curve, scores],
        )
    return trained, checkpoint
