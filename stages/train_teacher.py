"""Train one teacher with the labels alone: `python -m stages.train_teacher NAME`.

With `cross_fit.folds`, before it so many fold teachers, each without a part of the images, which it then labels.
"""

from pipeline.params import fold_name
from pipeline.project import errors
from pipeline.project.randomness import derive
from pipeline.training import folds
from pipeline.training.loop import Lesson
from pipeline.training.losses import label_loss_alone
from pipeline.training.views import Views, resolved
from stages.starting import start_stage
from stages.training import Job, Room, enter, train_and_save


def main(name: str) -> None:
    record, settings = start_stage("train_teacher", name)
    settings.teacher(name)  # or an error that names those that there are
    room, count = enter(settings), settings.cross_fit.folds
    parts = [train_and_save(room, _job(room, name, fold), None) for fold in range(count if count > 1 else 0)]
    spent = {f"folds_{key}": sum(trained.cost[key] for trained, _ in parts) for key in ("seconds", "images")}
    parts.append(train_and_save(room, _job(room, name), record, **spent))
    if room.ranks.first:
        for _, checkpoint in parts:
            checkpoint.remove()


def _job(room: Room, name: str, fold: int | None = None) -> Job:
    """Views of its own and ever new ones: what it labels later is not what it has learned by heart."""
    settings, ids, title = room.settings, room.train.labelled, name
    if fold is not None:
        count = settings.cross_fit.folds
        ids, title = ids[folds.fold_of(ids, count, settings.seed) != fold], fold_name(name, fold, count)
    teacher = settings.teacher(name)
    seed = derive(settings.seed, "teacher", title, teacher.seed)
    loss = label_loss_alone(teacher.label_smoothing, room.label_weights)
    lesson = Lesson(room.train, ids, Views.fresh(settings.views, seed), loss)
    return Job(title, teacher, seed, lesson, {"seed": settings.seed, "views": resolved(settings.views)})


if __name__ == "__main__":
    errors.run(main)
