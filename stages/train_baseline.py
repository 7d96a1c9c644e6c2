"""The student without a teacher: `python -m stages.train_baseline SEED`."""

from pipeline.project import errors
from pipeline.project.randomness import derive
from pipeline.training.loop import Lesson
from pipeline.training.losses import label_loss_alone
from pipeline.training.views import Views, resolved
from stages.starting import start_stage
from stages.training import Job, enter, train_and_save


def main(student_seed: str) -> None:
    record, settings = start_stage("train_baseline", student_seed)
    room, student = enter(settings), settings.baseline_student()
    views = Views.alone(settings.views, settings.student_views, settings.baseline.views, settings.seed)
    loss = label_loss_alone(student.label_smoothing, room.label_weights)
    lesson = Lesson(room.train, room.train.labelled, views, loss)
    logged = {"seed": settings.seed, "student_seed": student_seed, "views": resolved(settings.views),
              "student_views": settings.student_views, "baseline": {"views": settings.baseline.views}}  # fmt: skip
    job = Job(f"baseline-{student_seed}", student, derive(settings.seed, "student", int(student_seed)), lesson, logged)
    _, checkpoint = train_and_save(room, job, record)
    if room.ranks.first:
        checkpoint.remove()


if __name__ == "__main__":
    errors.run(main)
