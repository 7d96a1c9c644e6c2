"""The summary run: one row of the MLflow UI is one version of the pipeline. It has no outs."""

from pipeline import errors, files, params, paths, tracking


def main() -> None:
    record = tracking.Record("publish")
    settings = params.load()
    summary, ways = files.read_json(paths.SUMMARY), files.read_json(paths.ENSEMBLE_METRICS)
    reports = [paths.BENCHMARK_CSV, paths.BENCHMARK_MARKDOWN, paths.PAIRS, paths.TRADE_OFF, paths.RELIABILITY,
               paths.CONFUSION, paths.SUBSETS, paths.SUBSETS_PICTURE, paths.DIVERSITY, paths.CALIBRATION]  # fmt: skip
    tracking.log_summary(
        record,
        settings.tracking,
        paths.records(settings.members(), settings.student_arms()),
        params={**settings.model_dump(), "shipped": summary["shipped"], "best_single": summary["best_single"]},
        metrics=tracking.by_metric("test", summary["test"]) | tracking.by_metric("val", ways["val"]),
        artifacts=[*reports, paths.SUMMARY, paths.ENSEMBLE_METRICS, paths.PARAMS, paths.DVC_YAML, paths.DVC_LOCK],
        description=paths.BENCHMARK_MARKDOWN.read_text(encoding="utf-8"),
    )


if __name__ == "__main__":
    errors.run(main)
