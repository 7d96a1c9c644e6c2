"""What a stage gathers from folders that other stages write into: of the names in params.yaml, and of no others."""

import shutil
from pathlib import Path

from pipeline.params import BASELINE, Params
from pipeline.project import paths


def drop_stale(settings: Params) -> None:
    """Remove what stages have made of teachers, sources and seeds that params.yaml no longer names, and say so.

    DVC hashes the gathered folders after the command, so dvc.lock then knows only what is left.
    """
    for folder, names in _named(settings).items():
        drop_others(folder, names)


def drop_others(folder: Path, names: set[str]) -> None:
    """Remove from a folder what is of none of the names, and say so."""
    if not folder.is_dir():
        return
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.stem not in names):
        print(f"{path} is of a model that params.yaml does not name, and is removed", flush=True)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _named(settings: Params) -> dict[Path, set[str]]:
    """The names that may be in each folder, without suffixes."""
    teachers, arms = set(settings.teachers), settings.student_arms()
    seeds, sources = {str(seed) for seed in settings.student_seeds}, set(settings.distill.sources)
    students = {student for source in sources for student in arms[source]}
    return {
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
        paths.RUNS / "export_student": sources,
        paths.CURVES: {*teachers, *students, *arms[BASELINE]},
    }
