"""Teach one student from cached targets: `python -m stages.distill SOURCE SEED`, with SOURCE single or ensemble."""

from pipeline.distillation.students import train_student
from pipeline.logits import targets
from pipeline.project import data, errors, files, paths
from pipeline.training import backbones, ranks
from stages import trained
from stages.beginning import begin


def main(source: str, student_seed: str) -> None:
    name = f"{source}-{student_seed}"
    record, settings = begin("distill", name)
    info, train = data.open_info(paths.PREPARED), data.open_split(paths.PREPARED, "train")
    (together, device), path = ranks.start(settings.compute), paths.targets(source)
    logged = {"seed": settings.seed, "student_seed": student_seed, "views": settings.views,
              "compute": settings.compute, "model": settings.student, "distill": settings.distill,
              "source": source, "data": {"class_weights": settings.class_weights},
              "backbone_sha256": backbones.sha256(settings.student.backbone)}  # fmt: skip
    rows = files.open_array(path)
    checkpoint = trained.checkpoint(name, logged, info.sha256 | {path.name: files.sha256(path)}, device)
    shape = (settings.views.count, len(train), len(info.classes))
    model, result = train_student(
        info,
        train,
        data.open_split(paths.PREPARED, "val"),
        settings.student,
        settings.views,
        seed=settings.seed,
        student_seed=int(student_seed),
        device=device,
        ranks=together,
        name=name,
        class_weights=settings.class_weights,
        compiled=settings.compute.compile,
        distill=settings.distill,
        targets=targets.reader(rows, shape, settings.distill.temperature),
        checkpoint=checkpoint,
    )
    if together.first:
        trained.save(name, model, result, record, settings.tracking, logged, checkpoint)


if __name__ == "__main__":
    errors.run(main)
