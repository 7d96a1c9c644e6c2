"""The summary run: one row of the MLflow UI is one version of the pipeline. It has no outs."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pipeline.deployment import choice, latency, measuring
from pipeline.deployment.latency import OnnxFile
from pipeline.deployment.measuring import Timing
from pipeline.params import Params, Tracking, flatten
from pipeline.project import data, errors, files, paths
from pipeline.project.data import Split
from pipeline.project.randomness import derive
from pipeline.reporting import figures
from pipeline.scoring import metrics, statistics
from pipeline.tracking import registry, server, store, summary, sweeps
from stages import dvc_files
from stages.gathering import drop_stale
from stages.starting import start_stage

ARTIFACTS = (
    *(paths.BENCHMARK_CSV, paths.BENCHMARK_MARKDOWN, paths.PAIRS, paths.TRADE_OFF, paths.RELIABILITY, paths.CONFUSION),
    *(paths.SUBSETS, paths.SUBSETS_PICTURE, paths.DIVERSITY, paths.CALIBRATION, paths.REPORT_HTML, paths.DECISION),
    *(paths.SUMMARY, paths.BENCHMARK, paths.CHOSEN, paths.LATENCY, paths.STUDENT_SCORES, paths.ENSEMBLE_METRICS),
    *(paths.VAL_SUMMARY, paths.PARAMS, paths.DEFAULTS, paths.DVC_YAML, paths.DVC_LOCK),
)
ROUNDS = 4  # of new processes, by whose spread two times are told apart: of two, equal ones are so by chance too often


def main() -> None:
    record, settings = start_stage("publish")
    drop_stale(settings)
    made, ways = files.read_json(paths.BENCHMARK), files.read_json(paths.ENSEMBLE_METRICS)
    digests = data.open_info(paths.PREPARED).sha256
    record.params = flatten({**settings.model_dump(), "shipped": made["shipped"], "best_single": made["best_single"]})
    tracked = {f"data.{key}_md5": dvc_files.digest(settings.data.model_dump()[key]) for key in ("path", "unlabelled")}
    record.params |= {key: checksum for key, checksum in tracked.items() if checksum}
    record.metrics = (
        files.read_json(paths.SUMMARY)
        | store.by_metric("test", made["test"])
        | store.by_metric("test_over_alone", made["over_alone_by_seed"])
        | store.by_metric("val", ways["val"])
        | store.by_metric("val_students", files.read_json(paths.STUDENT_SCORES))
    )
    record.data = {split: digests[f"{split}_images.npy"] for split in ("train", "val", "test")}
    with TemporaryDirectory() as name:
        folder = Path(name)
        record.artifacts = [str(path) for path in (*ARTIFACTS, *_sweep(settings.tracking, folder))]
        run_id = summary.log(record, settings.tracking, paths.BENCHMARK_MARKDOWN.read_text(encoding="utf-8"))
        print(_register(settings, run_id, folder))


def _sweep(settings: Tracking, folder: Path) -> list[Path]:
    """A picture of this version's students among those of other alphas and temperatures, if there are any."""
    present = store.read(paths.record("score_students")).params
    points = sweeps.comparable(summary.past(settings, "score_students"), present)
    if len(points[["alpha", "temperature"]].drop_duplicates()) < 2:
        return []
    picture = folder / "alpha_by_temperature.png"
    figures.sweep(points, picture)
    return [picture]


def _register(settings: Params, run_id: str, folder: Path) -> str:
    """Register what ships, let it challenge the champion on val, and say how that went."""
    name = settings.deploy.name
    info, val = data.open_info(paths.PREPARED), data.open_split(paths.PREPARED, "val")
    lineage = {**files.read_json(paths.CHOSEN), "data": info.sha256["val_images.npy"], "run": run_id}
    example = {"images": val.images[:2], "logits": latency.onnx_logits(paths.DEPLOYED, val.images[:2])}

    def enter() -> tuple[str, str | None, dict[str, Path]]:
        """The new version, the champion, and the files of it and of the best so far if they know the same data."""
        client = server.connect()
        number = registry.register(client, name, paths.DEPLOYED, example, run_id, lineage)
        champion = registry.holder(client, name, registry.CHAMPION)
        if champion is None:
            registry.crown(client, name, number)
        if champion in (None, number):
            return number, champion, {}
        rivals = dict.fromkeys((champion, registry.holder(client, name, registry.BEST) or champion))  # the best is last
        if any(client.get_model_version(name, each).tags.get("data") != lineage["data"] for each in rivals):
            return number, champion, {}
        return number, champion, {each: registry.download(name, each, folder / each) for each in rivals}

    with server.answering(registry.PROBLEM):
        number, champion, rivals = server.promptly(enter)
    if champion == number:
        return f"{name} {number} is already the champion"
    if champion is None:
        return f"{name} {number} is the first champion"
    if not rivals:
        return (f"{name} {number} is challenger; champion {champion} knows other validation images, so they can't be "
                f"compared; `python -m pipeline.tracking.registry rollback {number}` makes it champion")  # fmt: skip
    takes, best, why = _wins(settings, number, rivals, val)
    if takes:
        with server.answering(registry.PROBLEM):
            server.promptly(lambda: registry.crown(server.connect(), name, number, best))
    return f"{name} {number} {'is the new champion' if takes else 'stays challenger'} against {champion}: {why}"


def _wins(settings: Params, number: str, rivals: dict[str, Path], val: Split) -> tuple[bool, str, str]:
    """Whether the challenger takes the champion's place, which version is then the best so far, and why.

    Args:
        rivals: the files of the champion, first, and of the best so far, last; they may be the same.
    """
    champion, best = next(iter(rivals)), list(rivals)[-1]
    logits = {who: latency.onnx_logits(path, val.images) for who, path in {**rivals, number: paths.DEPLOYED}.items()}
    if np.array_equal(logits[number], logits[champion]):
        return False, best, "it gives the champion's own answers"
    difference = metrics.correct(logits[number], val.labels) * 1.0 - metrics.correct(logits[best], val.labels)
    low, high = statistics.bootstrap_interval(
        difference, settings.benchmark.bootstrap, derive(settings.seed, "registry")
    )
    gain = {"value": difference.mean(), "low": low, "high": high}
    wanted = settings.benchmark
    timing = Timing(wanted.threads, {1: wanted.calls[1]}, wanted.warmup, rounds=ROUNDS)
    systems = {"challenger": OnnxFile(paths.DEPLOYED), "champion": OnnxFile(rivals[champion])}
    takes, why = choice.promote(gain, measuring.measure(systems, val.images, timing), settings.deploy.tolerance)
    return takes, number if gain["value"] > 0 else best, why


if __name__ == "__main__":
    errors.run(main)
