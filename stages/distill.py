"""Teach one student from cached targets: `python -m stages.distill SOURCE SEED`, SOURCE as in `distill.sources`."""

import numpy as np

from pipeline.distillation.students import check_classes, taught_loss
from pipeline.logits import targets
from pipeline.project import errors, files, paths
from pipeline.project.randomness import derive
from pipeline.training.loop import Lesson
from pipeline.training.views import Views, resolved
from stages.starting import start_stage
from stages.training import Job, enter, train_and_save


def main(source: str, student_seed: str) -> None:
    name, path = f"{source}-{student_seed}", paths.targets(source)
    record, settings = start_stage("distill", name)
    room, distill, student = enter(settings), settings.distill, settings.student
    check_classes(distill, len(room.info.classes))
    shape = (settings.student_views.count, len(room.train), len(room.info.classes))
    lesson = Lesson(
        room.train,
        np.arange(len(room.train), dtype=np.int32) if distill.teaches else room.train.labelled,
        Views.replayed(settings.views, settings.student_views, settings.seed),
        taught_loss(distill, student.label_smoothing, room.label_weights),
        targets.reader(files.open_array(path), shape, distill.target_temperature),
    )
    logged = {"seed": settings.seed, "student_seed": student_seed, "views": resolved(settings.views),
              "student_views": settings.student_views, "distill": distill, "source": source}  # fmt: skip
    seed = derive(settings.seed, "student", int(student_seed))
    job = Job(name, student, seed, lesson, logged, {path.name: files.sha256(path)})
    _, checkpoint = train_and_save(room, job, record)
    if room.ranks.first:
        checkpoint.remove()


if __name__ == "__main__":
    errors.run(main)
