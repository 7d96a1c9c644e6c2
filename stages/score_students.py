"""What is reached on val: each arm over its seeds, which a sweep is judged by, and the rows that CI compares.

Nothing has to be exported for it, and test is not read.
"""

import numpy as np
import pandas as pd

from pipeline.params import BASELINE
from pipeline.project import errors, files, paths
from pipeline.reporting import arms
from pipeline.tracking import store
from stages.gathering import drop_stale
from stages.starting import start_stage


def main() -> None:
    record, settings = start_stage("score_students")
    drop_stale(settings)
    students = settings.student_arms()
    trained = {name: files.read_json(paths.model_scores(name)) for names in students.values() for name in names}
    scores = arms.by_arm(students, trained)
    files.write_json(paths.STUDENT_SCORES, scores)
    table = _predictions(students)
    with files.atomic_write(paths.VAL_PREDICTIONS) as temporary:
        table.to_csv(temporary, index=False)
    files.write_json(paths.VAL_SUMMARY, arms.summary(table))
    print(arms.text(scores))
    store.log(
        record,
        paths.record("score_students"),
        settings.tracking,
        params={key: getattr(settings, key)
                for key in ("seed", "data", "views", "student_views", "loss", "teachers", "student", "student_seeds",
                            "baseline", "distill")},
        metrics=store.by_metric("val", scores),
        artifacts=[paths.STUDENT_SCORES, paths.VAL_SUMMARY],
    )  # fmt: skip


def _predictions(students: dict[str, list[str]]) -> pd.DataFrame:
    """What the last arm, the baseline, the best teacher and the ensemble that teaches answer for each image of val."""
    others, fitted = pd.read_csv(paths.VAL_ANSWERS), files.read_json(paths.ENSEMBLES)
    chosen = {"student": list(students)[-1], "alone": BASELINE}
    rows = {role: np.stack([files.open_array(paths.model_answers(name)) for name in students[arm]])
            for role, arm in chosen.items()}  # fmt: skip
    rows |= {role: others[[fitted[key]]].to_numpy().T for role, key in (("single", "best"), ("ensemble", "chosen"))}
    return arms.predictions(rows, others["label"].to_numpy())


if __name__ == "__main__":
    errors.run(main)
