"""The control arm, a student without a teacher: `python -m stages.train_baseline SEED`."""

from pipeline import compute, data, errors, params, paths, tracking
from pipeline.students import train_student
from stages import trained


def main(student_seed: str) -> None:
    record = tracking.begin("train_baseline", student_seed)
    settings = params.load()
    name = f"baseline-{student_seed}"
    model, result = train_student(
        data.open_info(paths.PREPARED),
        data.open_split(paths.PREPARED, "train"),
        data.open_split(paths.PREPARED, "val"),
        settings.control(),
        settings.views,
        seed=settings.seed,
        student_seed=int(student_seed),
        device=compute.device(settings.compute),
        name=name,
        compiled=settings.compute.compile,
    )
    logged = {"seed": settings.seed, "student_seed": student_seed, "views": settings.views,
              "compute": settings.compute, "model": settings.control()}  # fmt: skip
    trained.save(name, model, result, record, settings.tracking, logged)


if __name__ == "__main__":
    errors.run(main)
