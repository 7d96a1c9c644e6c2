"""Teach one student from cached targets: `python -m stages.distill SOURCE SEED`, with SOURCE single or ensemble."""

from pipeline import compute, data, errors, files, params, paths, targets, tracking
from pipeline.students import train_student
from stages import trained


def main(source: str, student_seed: str) -> None:
    name = f"{source}-{student_seed}"
    record = tracking.begin("distill", name)
    settings = params.load()
    info, train = data.open_info(paths.PREPARED), data.open_split(paths.PREPARED, "train")
    shape = (settings.views.count, len(train), len(info.classes))
    model, result = train_student(
        info,
        train,
        data.open_split(paths.PREPARED, "val"),
        settings.student,
        settings.views,
        seed=settings.seed,
        student_seed=int(student_seed),
        device=compute.device(settings.compute),
        name=name,
        compiled=settings.compute.compile,
        distill=settings.distill,
        targets=targets.reader(files.open_array(paths.targets(source)), shape, settings.distill.temperature),
    )
    logged = {"seed": settings.seed, "student_seed": student_seed, "views": settings.views,
              "compute": settings.compute, "model": settings.student, "distill": settings.distill,
              "source": source}  # fmt: skip
    trained.save(name, model, result, record, settings.tracking, logged)


if __name__ == "__main__":
    errors.run(main)
