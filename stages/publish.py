"""The summary run: one row of the MLflow UI is one version of the pipeline. It has no outs."""

from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.deployment import choice, latency
from pipeline.deployment.latency import OnnxFiles, Timing
from pipeline.params import Params, Tracking
from pipeline.project import data, errors, files, paths
from pipeline.project.randomness import derive
from pipeline.reporting import report
from pipeline.scoring import metrics, statistics
from pipeline.tracking import registry, store, summary, sweeps
from stages.beginning import begin

REPORTS = [
    *(paths.BENCHMARK_CSV, paths.BENCHMARK_MARKDOWN, paths.PAIRS, paths.TRADE_OFF, paths.RELIABILITY, paths.CONFUSION),
    *(paths.SUBSETS, paths.SUBSETS_PICTURE, paths.DIVERSITY, paths.CALIBRATION, paths.REPORT_HTML),
]
REST = [
    paths.SUMMARY,
    paths.BENCHMARK,
    paths.CHOSEN,
    paths.DECISION,
    paths.LATENCY,
    paths.STUDENTS,
    paths.ENSEMBLE_METRICS,
    paths.PARAMS,
    paths.DVC_YAML,
    paths.DVC_LOCK,
]


def main() -> None:
    record, settings = begin("publish")
    made, ways = files.read_json(paths.BENCHMARK), files.read_json(paths.ENSEMBLE_METRICS)
    digests = data.open_info(paths.PREPARED).sha256
    with TemporaryDirectory() as folder:
        run_id = summary.log(
            record,
            settings.tracking,
            paths.records(settings.trained_teachers(), settings.members(), settings.student_arms()),
            params={**settings.model_dump(), "shipped": made["shipped"], "best_single": made["best_single"]},
            metrics=files.read_json(paths.SUMMARY)
            | store.by_metric("test", made["test"])
            | store.by_metric("test_over_alone", made["over_alone_by_seed"])
            | store.by_metric("val", ways["val"])
            | store.by_metric("val_students", files.read_json(paths.STUDENTS)),
            data={split: digests[f"{split}_images.npy"] for split in ("train", "val", "test")},
            artifacts=[*REPORTS, *REST, *_sweep(settings.tracking, Path(folder))],
            description=paths.BENCHMARK_MARKDOWN.read_text(encoding="utf-8"),
        )
        with registry.answering():
            print(_register(settings, run_id, Path(folder)))


def _register(settings: Params, run_id: str, folder: Path) -> str:
    """Register what ships, let it challenge the champion on val, and say how that went."""
    name = settings.deploy.name
    info, val = data.open_info(paths.PREPARED), data.open_split(paths.PREPARED, "val")
    lineage = {**files.read_json(paths.CHOSEN), "data": info.sha256["val_images.npy"], "run": run_id}
    client = store.promptly(store.connect)

    def enter() -> tuple[str, str | None, Path | None]:
        """The new version, the champion, and the champion's file if the same data lets them be compared."""
        number = registry.register(client, name, paths.DEPLOYED, val.images[:2], run_id, lineage)
        champion = registry.holder(client, name, registry.CHAMPION)
        if champion is None:
            registry.crown(client, name, number)
        if champion in (None, number):
            return number, champion, None
        known = client.get_model_version(name, champion).tags.get("data") == lineage["data"]
        return number, champion, registry.download(client, name, champion, folder) if known else None

    number, champion, rival = store.promptly(enter)
    if champion == number:
        return f"{name} {number} is already the champion"
    if champion is None:
        return f"{name} {number} is the first champion"
    if rival is None:
        return (f"{name} {number} is challenger; champion {champion} knows other validation images, so they can't be "
                f"compared; `python -m pipeline.tracking.registry rollback {number}` makes it champion")  # fmt: skip
    files_of = {"challenger": paths.DEPLOYED, "champion": rival}
    hits = {who: metrics.correct(latency.onnx_logits(path, val.images), val.labels) for who, path in files_of.items()}
    difference = hits["challenger"] * 1.0 - hits["champion"]
    low, high = statistics.bootstrap_interval(
        difference, settings.benchmark.bootstrap, derive(settings.seed, "registry")
    )
    wanted = Timing(settings.benchmark.threads, {1: settings.benchmark.calls[1]}, settings.benchmark.warmup)
    took = latency.measure({who: OnnxFiles((path,)) for who, path in files_of.items()}, val.images, wanted)
    gain = {"value": difference.mean(), "low": low, "high": high}
    p50 = {who: row["p50_ms"] for who, row in took.items()}
    takes, why = choice.promotes(gain, p50["challenger"], p50["champion"], settings.deploy.tolerance)
    if takes:
        store.promptly(registry.crown, client, name, number)
    return f"{name} {number} {'is the new champion' if takes else 'stays challenger'} against {champion}: {why}"


def _sweep(settings: Tracking, folder: Path) -> list[Path]:
    """A picture of this version's students among those of other alphas and temperatures, if there are any."""
    present = store.read(paths.record("score_students")).params
    points = sweeps.comparable(summary.past(settings, "score_students"), present)
    if len(points[["alpha", "temperature"]].drop_duplicates()) < 2:
        return []
    picture = folder / "alpha_by_temperature.png"
    report.sweep(points, picture)
    return [picture]


if __name__ == "__main__":
    errors.run(main)
