"""The summary run: one row of the MLflow UI is one version of the pipeline. It has no outs."""

from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline import errors, files, params, paths, report, sweeps, tracking
from pipeline.params import Tracking

REPORTS = [
    *(paths.BENCHMARK_CSV, paths.BENCHMARK_MARKDOWN, paths.PAIRS, paths.TRADE_OFF, paths.RELIABILITY, paths.CONFUSION),
    *(paths.SUBSETS, paths.SUBSETS_PICTURE, paths.DIVERSITY, paths.CALIBRATION),
]
REST = [paths.SUMMARY, paths.STUDENTS, paths.ENSEMBLE_METRICS, paths.PARAMS, paths.DVC_YAML, paths.DVC_LOCK]


def main() -> None:
    record = tracking.Record("publish")
    settings = params.load()
    summary, ways = files.read_json(paths.SUMMARY), files.read_json(paths.ENSEMBLE_METRICS)
    with TemporaryDirectory() as folder:
        tracking.log_summary(
            record,
            settings.tracking,
            paths.records(settings.trained_teachers(), settings.members(), settings.student_arms()),
            params={**settings.model_dump(), "shipped": summary["shipped"], "best_single": summary["best_single"]},
            metrics=tracking.by_metric("test", summary["test"])
            | tracking.by_metric("test_over_alone", summary["over_alone_by_seed"])
            | tracking.by_metric("val", ways["val"])
            | tracking.by_metric("val_students", files.read_json(paths.STUDENTS)),
            artifacts=[*REPORTS, *REST, *_sweep(settings.tracking, Path(folder))],
            description=paths.BENCHMARK_MARKDOWN.read_text(encoding="utf-8"),
        )


def _sweep(settings: Tracking, folder: Path) -> list[Path]:
    """A picture of this version's students among those of other alphas and temperatures, if there are any."""
    present = tracking.read(paths.record("score_students")).params
    points = sweeps.comparable(tracking.past(settings, "score_students"), present)
    if len(points[["alpha", "temperature"]].drop_duplicates()) < 2:
        return []
    picture = folder / "alpha_by_temperature.png"
    report.sweep(points, picture)
    return [picture]


if __name__ == "__main__":
    errors.run(main)
