"""What students are worth on val, each arm over its seeds: what a sweep is judged by, before anything is exported."""

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
    print(arms.text(scores))
    store.log(
        record,
        paths.record("score_students"),
        settings.tracking,
        params={key: getattr(settings, key)
                for key in ("seed", "data", "views", "student_views", "loss", "teachers", "student", "student_seeds",
                            "baseline", "distill")},
        metrics=store.by_metric("val", scores),
        artifacts=[paths.STUDENT_SCORES],
    )  # fmt: skip


if __name__ == "__main__":
    errors.run(main)
