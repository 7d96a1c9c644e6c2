"""The control arm, a student without a teacher: `python -m stages.train_baseline SEED`."""

from pipeline.distillation.students import train_student
from pipeline.project import data, errors, paths
from pipeline.training import backbones, ranks
from stages import trained
from stages.beginning import begin


def main(student_seed: str) -> None:
    record, settings = begin("train_baseline", student_seed)
    name = f"baseline-{student_seed}"
    info, (together, device) = data.open_info(paths.PREPARED), ranks.start(settings.compute)
    logged = {"seed": settings.seed, "student_seed": student_seed, "views": settings.views,
              "compute": settings.compute, "model": settings.control(),
              "data": {"class_weights": settings.class_weights},
              "backbone_sha256": backbones.sha256(settings.student.backbone)}  # fmt: skip
    checkpoint = trained.checkpoint(name, logged, info.sha256, device)
    model, result = train_student(
        info,
        data.open_split(paths.PREPARED, "train"),
        data.open_split(paths.PREPARED, "val"),
        settings.control(),
        settings.views,
        seed=settings.seed,
        student_seed=int(student_seed),
        device=device,
        ranks=together,
        name=name,
        class_weights=settings.class_weights,
        compiled=settings.compute.compile,
        checkpoint=checkpoint,
    )
    if together.first:
        trained.save(name, model, result, record, settings.tracking, logged, checkpoint)


if __name__ == "__main__":
    errors.run(main)
