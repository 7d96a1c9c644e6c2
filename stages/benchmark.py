"""Read the test split, once, and put every method beside every other: accuracy, calibration, and what each costs."""

import numpy as np
import pandas as pd

from pipeline.deployment import export, latency, lineup
from pipeline.deployment.lineup import Entry
from pipeline.logits import manifest, topk
from pipeline.params import Params
from pipeline.project import data, errors, files, paths
from pipeline.project.randomness import derive
from pipeline.reporting import comparison, costs, report
from pipeline.reporting.comparison import Method
from pipeline.scoring import metrics
from pipeline.tracking import store
from pipeline.training import devices, loop, models
from pipeline.training.views import Looks
from stages.beginning import begin


def main() -> None:
    record, settings = begin("benchmark")
    info, test = data.open_info(paths.PREPARED), data.open_split(paths.PREPARED, "test")
    fitted, measured = files.read_json(paths.ENSEMBLES), files.read_json(paths.LATENCY)
    trained = {name: files.read_json(paths.model_metrics(name)) for name in settings.models()}
    entries = lineup.entries(list(settings.members()), settings.student_arms(), fitted, trained)
    of_members = _cached_logits(settings, info)

    methods = [_method(entry, of_members, test.images) for entry in entries]
    made = costs.of_entries(entries, fitted, *_spent(settings))
    spent = {entry.name: measured["methods"][entry.name] | made[entry.name] for entry in entries}
    eager = files.read_json(paths.TORCH_LATENCY)
    for entry in entries:
        if entry.kind in ("teacher", "student"):
            timed = entry.name if entry.kind == "teacher" else "student"
            spent[entry.name] |= {"p50_ms_torch": eager[timed]["p50_ms"]}
    sizes = {name: files.read_json(paths.export_metrics(name))["model"] for name in settings.models()}
    for entry in entries:
        for key in ("parameters", "multiply_adds"):
            spent[entry.name][key] = sum(sizes[model][key] for model in entry.system.members)
    chosen, best = fitted["chosen"], fitted["best"]
    resamples, seed = settings.benchmark.bootstrap, derive(settings.seed, "bootstrap")
    rows = comparison.table(methods, test.labels, spent, teacher=best, ensemble=chosen, resamples=resamples, seed=seed)
    pairs = comparison.pairs(methods, test.labels, resamples, seed)
    by_seed = comparison.over_seeds(methods, test.labels)
    agreement = _agreement(settings, entries, methods, test.images, chosen)

    drawn = [m for m in methods if m.kind != "ensemble" or m.name in ("simple", chosen)]
    text = report.markdown(report.comparison(rows, pairs, by_seed, len(test), measured["machine"]))
    _write(rows, pairs, text, drawn, info.classes, test.labels)
    with files.replacing(paths.PREDICTIONS) as temporary:
        comparison.predictions(methods, test.labels).to_csv(temporary, index=False)
    shipped = {entry.name: entry.system.members[0] for entry in entries if entry.kind == "student"}
    student = list(settings.student_arms())[-1]
    files.write_json(paths.SUMMARY, comparison.summary(rows, student=student, teacher=best, ensemble=chosen))
    files.write_json(
        paths.BENCHMARK,
        {"best_single": best, "chosen_ensemble": chosen, "shipped": shipped, "test": comparison.headline(rows),
         "over_alone_by_seed": by_seed, "torch_and_onnx_agree": agreement},
    )  # fmt: skip
    store.log(
        record,
        paths.record("benchmark"),
        settings.tracking,
        params={"benchmark": settings.benchmark, "best_single": best, "chosen": chosen, "shipped": shipped},
        metrics=store.by_metric("test", comparison.headline(rows))
        | store.by_metric("test_over_alone", by_seed)
        | {f"torch_and_onnx_agree/{name}": share for name, share in agreement.items()},
        artifacts=[paths.BENCHMARK_CSV, paths.BENCHMARK_MARKDOWN, paths.PAIRS, paths.TRADE_OFF, paths.RELIABILITY,
                   paths.CONFUSION],
    )  # fmt: skip


def _cached_logits(settings: Params, info: data.Info) -> dict[str, np.ndarray]:
    """Each teacher's (samples, classes) logits of test."""
    looks, cached = Looks.cached(settings.views, settings.seed), {}
    for name in settings.members():
        weights = [paths.weights(each) for each in settings.with_fold_teachers(name)]
        origin = manifest.Origin.of(weights, info, looks, settings.logits)
        rows = manifest.open_cache(paths.logits(name), "test", origin)[0]
        cached[name] = topk.decode(rows, len(info.classes)).astype(np.float64)
    return cached


def _method(entry: Entry, of_members: dict[str, np.ndarray], images: np.ndarray) -> Method:
    """The entry with its answers: of teachers from the cache, of what is exported by ONNX Runtime."""
    if entry.kind == "teacher":
        answers = of_members[entry.name][None]
    elif entry.kind == "ensemble":
        answers = entry.system.log_probs(np.stack([of_members[name] for name in entry.models]))[None]
    else:
        answers = np.stack([latency.onnx_logits(entry.exported(name), images) for name in entry.models])
    shipped = entry.shipped if entry.is_single else 0
    return Method(entry.name, entry.kind, entry.system, metrics.log_softmax(answers), shipped)


def _spent(settings: Params) -> tuple[dict[str, costs.Training], dict[str, costs.Training]]:
    """What each model's training took, and each teacher's looking at what students are taught on."""
    arms, trained, cached, samples = settings.student_arms(), {}, {}, files.read_json(paths.DATA_REPORT)
    looks = settings.views.count * (samples["train_samples"] + samples["unlabelled_samples"])
    for name in settings.members():
        trained[name] = costs.of_record(files.read_json(paths.record("train_teacher", name)))
        folds = [costs.of_record(files.read_json(paths.record("train_teacher", fold)))
                 for fold in settings.fold_teachers(name)]  # fmt: skip
        looked = costs.of_looking(files.read_json(paths.record("cache_logits", name)), looks)
        cached[name] = costs.total([looked, *folds])
    for arm, names in arms.items():
        for name in names:
            alone = arm == comparison.CONTROL
            stage, item = ("train_baseline", name.removeprefix(f"{arm}-")) if alone else ("distill", name)
            trained[name] = costs.of_record(files.read_json(paths.record(stage, item)))
    return trained, cached


def _agreement(
    settings: Params, entries: list[Entry], methods: list[Method], images: np.ndarray, chosen: str
) -> dict[str, float]:
    """The share of test images on which torch and the exported file decide alike, of all that may ship."""
    device, shares = devices.device(settings.compute), {}
    for entry, method in zip(entries, methods, strict=True):
        if entry.kind == "teacher" or entry.name == chosen:
            expected = method.ships
        elif entry.kind == "student":
            model = models.load(paths.weights(entry.system.members[0]))
            expected = loop.predict(model, images, device, exact=True)
        else:
            continue
        found = export.agreement(expected, latency.onnx_logits(entry.file, images))
        shares[entry.name] = 1 - found["changed_decisions"] / found["images"]
    return shares


def _write(
    rows: pd.DataFrame, pairs: pd.DataFrame, text: str, drawn: list[Method], classes: list[str], labels: np.ndarray
) -> None:
    for table, path in ((rows, paths.BENCHMARK_CSV), (pairs, paths.PAIRS)):
        with files.replacing(path) as temporary:
            table.to_csv(temporary, index=False)
    files.write_text(paths.BENCHMARK_MARKDOWN, text)
    report.trade_off(rows[rows["method"].isin([method.name for method in drawn])], paths.TRADE_OFF)
    curves = {m.name: metrics.reliability(m.ships, labels) for m in drawn if m.kind not in ("teacher", "int8")}
    report.reliability({"on test": curves}, paths.RELIABILITY)
    last = [method for method in drawn if method.kind == "student"][-1]
    heading = f"{report.title(last.kind, last.name)}, the seed that ships"
    counts = metrics.confusion(last.ships.argmax(axis=1), labels, len(classes))
    report.confusion(counts, classes, heading, paths.CONFUSION)


if __name__ == "__main__":
    errors.run(main)
