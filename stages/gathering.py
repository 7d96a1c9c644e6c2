"""What a stage gathers from folders that other stages write into: of the names in params.yaml, and of no others."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.params import BASELINE, Params
from pipeline.project import paths


def drop_stale(settings: Params) -> None:
    """Remove what stages have made of teachers, sources and seeds that params.yaml no longer names, and say so.

    DVC hashes the gathered folders after the command, so dvc.lock then knows only what is left.
    """
    for path in sorted(_stale(settings)):
        print(f"{path} is of a model that params.yaml does not name, and is removed", flush=True)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _stale(settings: Params) -> Iterator[Path]:
    teachers, arms = set(settings.teachers), settings.student_arms()
    seeds, sources = {str(seed) for seed in settings.student_seeds}, set(settings.distill.sources)
    students = {student for source in sources for student in arms[source]}
    named = {
        paths.TEACHERS: teachers,
        paths.LOGITS: teachers,
        paths.EXPORTED / "teachers": teachers,
        paths.EXPORTED / "students": set(arms),
        paths.STUDENTS: set(arms),
        **{folder / arm: seeds for folder in (paths.STUDENTS, paths.EXPORTED / "students") for arm in arms},
        paths.RUNS / "train_teacher": teachers,
        paths.RUNS / "cache_logits": teachers,
        paths.RUNS / "export_teacher": teachers,
        paths.RUNS / "train_baseline": seeds,
        paths.RUNS / "distill": students,
        paths.RUNS / "export_baseline": seeds,
        paths.RUNS / "export_student": students,
        paths.CURVES: {*teachers, *students, *arms[BASELINE]},
    }
    for folder, names in named.items():
        if folder.is_dir():
            yield from (path for path in folder.iterdir() if not path.name.startswith(".") and path.stem not in names)
