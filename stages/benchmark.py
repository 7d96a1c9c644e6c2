"""Read the test split, once, and put every method beside every other: accuracy, calibration, size, latency."""

import numpy as np
import pandas as pd

from pipeline import (
    comparison,
    data,
    ensemble,
    errors,
    files,
    latency,
    logits,
    metrics,
    params,
    paths,
    report,
    topk,
    tracking,
)
from pipeline.comparison import Method
from pipeline.ensemble import Ensemble
from pipeline.randomness import derive
from pipeline.views import Looks


def main() -> None:
    record = tracking.Record("benchmark")
    settings = params.load()
    info, test = data.open_info(paths.PREPARED), data.open_split(paths.PREPARED, "test")
    fitted = files.read_json(paths.ENSEMBLES)
    chosen, best = fitted["chosen"], fitted["best"]
    trained = {name: files.read_json(paths.model_metrics(name)) for name in settings.models()}
    shipped = {arm: comparison.best_seed(names, trained) for arm, names in settings.student_arms().items()}

    of_members = _cached_logits(settings, info)
    methods = [
        Method(name, "teacher", ensemble.alone(name), metrics.log_softmax(member)[None])
        for name, member in of_members.items()
    ]
    for way, values in fitted["methods"].items():
        system = Ensemble(**values)
        answers = system.log_probs(np.stack([of_members[name] for name in system.members]))
        methods.append(Method(way, "ensemble", system, answers[None]))
    for arm, names in settings.student_arms().items():
        of_seeds = metrics.log_softmax(np.stack([latency.onnx_logits(paths.onnx(name), test.images) for name in names]))
        methods.append(Method(arm, "student", ensemble.alone(shipped[arm]), of_seeds, names.index(shipped[arm])))

    onnx = {member: paths.onnx(member) for method in methods for member in method.system.members}
    print(f"timing {len(methods)} methods in a process of their own", flush=True)
    timing, systems = settings.benchmark, {method.name: method.system for method in methods}
    images = test.images[: max(timing.calls)]
    speed = latency.measure_apart(systems, onnx, images, timing.threads, timing.calls, timing.warmup)
    resamples, seed = settings.benchmark.bootstrap, derive(settings.seed, "bootstrap")
    rows = comparison.table(
        methods,
        test.labels,
        parameters={name: scores["parameters"] for name, scores in trained.items()},
        size_bytes={name: path.stat().st_size for name, path in onnx.items()},
        speed=speed,
        teacher=best,
        ensemble=chosen,
        resamples=resamples,
        seed=seed,
    )
    pairs = comparison.pairs(methods, test.labels, resamples, seed)
    by_seed = comparison.over_seeds(methods, test.labels)
    drawn = [m for m in methods if m.kind != "ensemble" or m.name in ("simple", chosen)]
    _write(rows, pairs, by_seed, drawn, info.classes, test.labels)
    files.write_json(paths.SUMMARY, {"best_single": best, "chosen_ensemble": chosen, "shipped": shipped,
                                     "test": comparison.headline(rows), "over_alone_by_seed": by_seed})  # fmt: skip
    tracking.log(
        record,
        paths.record("benchmark"),
        settings.tracking,
        params={"benchmark": settings.benchmark, "best_single": best, "chosen": chosen, "shipped": shipped},
        metrics=tracking.by_metric("test", comparison.headline(rows)) | tracking.by_metric("test_over_alone", by_seed),
        artifacts=[
            paths.BENCHMARK_CSV,
            paths.BENCHMARK_MARKDOWN,
            paths.PAIRS,
            paths.TRADE_OFF,
            paths.RELIABILITY,
            paths.CONFUSION,
        ],
    )


def _cached_logits(settings: params.Params, info: data.Info) -> dict[str, np.ndarray]:
    """Each teacher's (samples, classes) logits of test."""
    looks, cached = Looks.cached(settings.views, settings.seed), {}
    for name in settings.members():
        weights = [paths.weights(each) for each in settings.with_fold_teachers(name)]
        origin = logits.Origin.of(weights, info, looks, settings.logits)
        rows = logits.open_cache(paths.logits(name), "test", origin)[0]
        cached[name] = topk.decode(rows, len(info.classes)).astype(np.float64)
    return cached


def _write(
    rows: pd.DataFrame,
    pairs: pd.DataFrame,
    by_seed: dict[str, dict[str, float]],
    drawn: list[Method],
    classes: list[str],
    labels: np.ndarray,
) -> None:
    for table, path in ((rows, paths.BENCHMARK_CSV), (pairs, paths.PAIRS)):
        with files.replacing(path) as temporary:
            table.to_csv(temporary, index=False)
    files.write_text(paths.BENCHMARK_MARKDOWN, report.markdown(rows, pairs, by_seed, len(labels)))
    report.trade_off(rows[rows["method"].isin([method.name for method in drawn])], paths.TRADE_OFF)
    curves = {m.name: metrics.reliability(m.ships, labels) for m in drawn if m.kind != "teacher"}
    report.reliability({"on test": curves}, paths.RELIABILITY)
    last = drawn[-1]
    predicted = last.ships.argmax(axis=1)
    heading = f"{report.title(last.kind, last.name)}, the seed that ships"
    report.confusion(metrics.confusion(predicted, labels, len(classes)), classes, heading, paths.CONFUSION)


if __name__ == "__main__":
    errors.run(main)
