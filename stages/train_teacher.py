"""Train one teacher with the labels alone: `python -m stages.train_teacher NAME`.

NAME-fold0of3 is the teacher NAME without a third of the training images, which it labels for students.
"""

import torch

from pipeline.distillation import objectives
from pipeline.project import data, errors, paths
from pipeline.project.randomness import derive
from pipeline.training import backbones, folds, loop, models, ranks
from pipeline.training.views import Looks
from stages import trained
from stages.beginning import begin


def main(name: str) -> None:
    record, settings = begin("train_teacher", name)
    together, device = ranks.start(settings.compute)
    member, fold, count = folds.parse(name)
    teacher = settings.teacher(member)
    info = data.open_info(paths.PREPARED)
    train, val = (data.open_split(paths.PREPARED, split) for split in ("train", "val"))
    ids = train.labelled
    if fold is not None:
        ids = ids[folds.fold_of(ids, count, settings.seed) != fold]
    seed = derive(settings.seed, "teacher", name)
    torch.manual_seed(seed)
    model = models.build(teacher, info)
    # Looks of its own and ever new ones: what it labels later is not what it has learned by heart.
    looks = Looks(settings.augmentation, seed, count=None)
    logged = {"seed": settings.seed, "views": settings.augmentation, "compute": settings.compute, "model": teacher,
              "data": {"class_weights": settings.class_weights},
              "backbone_sha256": backbones.sha256(teacher.backbone)}  # fmt: skip
    checkpoint = trained.checkpoint(name, logged, info.sha256, device)
    weights = objectives.class_weights(settings.class_weights, train.labels, len(info.classes))
    result = loop.fit(
        model,
        train,
        val,
        teacher,
        looks,
        lambda logits, labels, *_: objectives.label_loss(logits, labels, teacher.label_smoothing, weights),
        device=device,
        ranks=together,
        seed=seed,
        name=name,
        ids=ids,
        compiled=settings.compute.compile,
        checkpoint=checkpoint,
    )
    if together.first:
        trained.save(name, model, result, record, settings.tracking, logged, checkpoint)


if __name__ == "__main__":
    errors.run(main)
