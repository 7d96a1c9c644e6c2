"""What students are worth on val, each arm over its seeds: what a sweep is judged by, before anything is exported."""

from pipeline.project import errors, files, paths
from pipeline.reporting import comparison, report
from pipeline.tracking import store
from stages.beginning import begin


def main() -> None:
    record, settings = begin("score_students")
    arms = settings.student_arms()
    trained = {name: files.read_json(paths.model_metrics(name)) for names in arms.values() for name in names}
    scores = comparison.by_arm(arms, trained)
    files.write_json(paths.STUDENTS, scores)
    print(report.arms(scores))
    store.log(
        record,
        paths.record("score_students"),
        settings.tracking,
        params={"seed": settings.seed, "data": settings.data, "views": settings.views, "teachers": settings.teachers,
                "student": settings.student, "student_seeds": settings.student_seeds, "baseline": settings.baseline,
                "distill": settings.distill},
        metrics=store.by_metric("val", scores),
        artifacts=[paths.STUDENTS],
    )  # fmt: skip


if __name__ == "__main__":
    errors.run(main)
