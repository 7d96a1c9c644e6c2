"""Read the test split, once, and put every method beside every other: accuracy, calibration, and what each costs."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from pipeline.deployment import latency, lineup
from pipeline.deployment.lineup import Entry
from pipeline.deployment.wording import title
from pipeline.ensembles import fitting
from pipeline.logits import manifest
from pipeline.params import BASELINE, Params
from pipeline.project import data, errors, files, paths
from pipeline.project.data import Info, Split
from pipeline.project.randomness import derive
from pipeline.reporting import comparison, corruptions, costs, figures, reads, tables
from pipeline.reporting.comparison import Method
from pipeline.scoring import metrics
from pipeline.tracking import store
from stages.gathering import drop_stale
from stages.starting import start_stage


def main() -> None:
    record, settings = start_stage("benchmark")
    drop_stale(settings)
    info = data.open_info(paths.PREPARED)
    val, test = (data.open_split(paths.PREPARED, split) for split in ("val", "test"))
    fitted, measured = files.read_json(paths.ENSEMBLES), files.read_json(paths.LATENCY)
    trained = {name: files.read_json(paths.model_scores(name)) for name in settings.models()}
    entries = lineup.table_rows(list(settings.teachers), settings.student_arms(), fitted, trained)
    of_teachers = _cached_logits(settings, info)
    methods = [_method(entry, of_teachers, val, test) for entry in entries]
    chosen, best = fitted["chosen"], fitted["best"]
    resamples, seed = settings.benchmark.bootstrap, derive(settings.seed, "bootstrap")
    rows = comparison.table(methods, test.labels, _costs(settings, entries, fitted, measured["methods"]),
                            teacher=best, ensemble=chosen)  # fmt: skip
    if settings.benchmark.corrupted:
        rows = rows.join(_under_corruptions(settings, entries, methods, test), on="method")
    pairs = comparison.pairs(methods, test.labels, resamples, seed)
    by_seed = comparison.over_seeds(methods, test.labels)
    students = [(entry, method) for entry, method in zip(entries, methods, strict=True) if entry.kind == "student"]
    shipped = {entry.name: entry.models[method.shipped] for entry, method in students}
    text = tables.markdown(tables.comparison(rows, pairs, by_seed, len(test), measured))
    files.write_text(paths.BENCHMARK_MARKDOWN, text)
    for table, path in ((rows, paths.BENCHMARK_CSV), (pairs, paths.PAIRS),
                        (comparison.predictions(methods, test.labels), paths.PREDICTIONS)):  # fmt: skip
        with files.atomic_write(path) as temporary:
            table.to_csv(temporary, index=False)
    reads.note(paths.TEST_READS, info.sha256["test_images.npy"], files.sha256(paths.PREDICTIONS))
    _draw(rows, [m for m in methods if m.kind != "ensemble" or m.name in ("simple", chosen)], info, test.labels)
    student = list(settings.student_arms())[-1]
    files.write_json(paths.SUMMARY, comparison.summary(rows, student=student, teacher=best, ensemble=chosen))
    made = {"best_single": best, "chosen_ensemble": chosen, "shipped": shipped, "test": comparison.headline(rows),
            "over_alone_by_seed": by_seed}  # fmt: skip
    files.write_json(paths.BENCHMARK, made)
    store.log(
        record,
        paths.record("benchmark"),
        settings.tracking,
        params={"benchmark": settings.benchmark, "best_single": best, "chosen": chosen, "shipped": shipped},
        metrics=store.by_metric("test", made["test"]) | store.by_metric("test_over_alone", by_seed),
        artifacts=[paths.BENCHMARK_CSV, paths.BENCHMARK_MARKDOWN, paths.PAIRS, paths.TRADE_OFF, paths.RELIABILITY,
                   paths.CONFUSION],
    )  # fmt: skip


def _cached_logits(settings: Params, info: Info) -> dict[str, np.ndarray]:
    """Each teacher's (samples, classes) logits of test."""
    cached = {}
    for name in settings.teachers:
        fingerprint = manifest.Fingerprint.read(settings, name, info)
        cached[name] = manifest.open_cache(paths.logits(name), "test", fingerprint)[0].astype(np.float64)
    return cached


def _method(entry: Entry, of_teachers: dict[str, np.ndarray], val: Split, test: Split) -> Method:
    """The entry with its answers on test: of teachers from the cache, of what is exported by ONNX Runtime."""
    if entry.kind in ("teacher", "ensemble"):
        logits = np.stack([of_teachers[name] for name in entry.models])
        answers = logits[0] if entry.kind == "teacher" else entry.system.log_probs(logits)
        temperature = files.read_json(paths.ENSEMBLE_METRICS)["temperatures"][entry.name]
        return Method(entry.name, entry.kind, metrics.log_softmax(answers[None]), np.array([temperature]))
    exported = [entry.exported(name) for name in entry.models]
    answers = np.stack([latency.onnx_logits(path, test.images) for path in exported])
    of_val = [latency.onnx_logits(path, val.images).astype(np.float64) for path in exported]
    temperatures = np.array([fitting.fit_temperature(logits, val.labels) for logits in of_val])
    return Method(entry.name, entry.kind, metrics.log_softmax(answers), temperatures, entry.shipped)


def _under_corruptions(settings: Params, entries: list[Entry], methods: list[Method], test: Split) -> pd.DataFrame:
    """What each row still gets right of spoiled test images: every exported file is asked once, ensembles combine."""
    seed = derive(settings.seed, "corruptions")
    chosen = corruptions.sample(test.labels, settings.benchmark.corrupted, seed)
    labels = test.labels[chosen]
    hits = {method.name: {"clean": metrics.correct(method.log_probs[:, chosen], labels)} for method in methods}
    exported = {entry.exported(model) for entry in entries for model in entry.models}
    with TemporaryDirectory() as folder:
        for name in corruptions.SEVERITY:
            images = corruptions.write(Path(folder) / "images.npy", test.images, chosen, name, seed)
            logits = {path: latency.onnx_logits(path, images) for path in exported}
            for entry in entries:
                answers = np.stack([logits[entry.exported(model)] for model in entry.models])
                if entry.kind == "ensemble":
                    answers = entry.system.log_probs(answers.astype(np.float64))[None]
                hits[entry.name][name] = metrics.correct(answers, labels)
    return comparison.under_corruptions(hits)


def _costs(
    settings: Params, entries: list[Entry], fitted: dict, measured: dict[str, dict[str, float]]
) -> dict[str, dict[str, float]]:
    """What each row takes to train, to store and to run, by the files of the stages that measured it."""
    made, eager = costs.columns(entries, fitted, *_training(settings)), files.read_json(paths.TORCH_LATENCY)
    sizes = {name: files.read_json(paths.export_scores(name))["model"] for name in settings.models()}
    rows = {}
    for entry in entries:
        size = {key: _sum([sizes[model][key] for model in entry.system.members])
                for key in ("parameters", "multiply_adds")}  # fmt: skip
        rows[entry.name] = measured[entry.name] | made[entry.name] | size
        if entry.kind in ("teacher", "student"):
            timed = entry.name if entry.kind == "teacher" else "student"
            rows[entry.name] |= {"p50_ms_torch": eager[timed]["p50_ms"]}
    return rows


def _sum(values: list[int | None]) -> int | None:
    """None where one is not known."""
    return None if None in values else sum(values)


def _training(settings: Params) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What each model's training took, and each teacher's answers to what students are taught on."""
    samples = files.read_json(paths.DATA_REPORT)
    answered = settings.student_views.count * (samples["train_samples"] + samples["unlabelled_samples"])
    trained, cached = {}, {}
    for name in settings.teachers:
        record = files.read_json(paths.record("train_teacher", name))
        caching = costs.caching(files.read_json(paths.record("cache_logits", name)), answered)
        trained[name], cached[name] = costs.training(record), caching + costs.training(record, "folds")
    for arm, names in settings.student_arms().items():
        for name in names:
            stage, item = ("train_baseline", name.rpartition("-")[2]) if arm == BASELINE else ("distill", name)
            trained[name] = costs.training(files.read_json(paths.record(stage, item)))
    return trained, cached


def _draw(rows: pd.DataFrame, drawn: list[Method], info: Info, labels: np.ndarray) -> None:
    figures.trade_off(rows[rows["method"].isin([method.name for method in drawn])], paths.TRADE_OFF)
    curves = {m.name: metrics.reliability(m.ships, labels) for m in drawn if m.kind not in ("teacher", "int8")}
    figures.reliability({"on test": curves}, paths.RELIABILITY)
    last = [method for method in drawn if method.kind == "student"][-1]
    counts = metrics.confusion(last.ships.argmax(axis=1), labels, len(info.classes))
    heading = f"{title(last.kind, last.name)}, the seed that ships"
    figures.confusion(counts, info.classes, heading, paths.CONFUSION)


if __name__ == "__main__":
    errors.run(main)
