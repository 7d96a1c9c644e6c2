"""Read the test split, once, and put every method beside every other: accuracy, calibration, size, latency."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

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
    chosen, best = fitted["chosen"], fitted["single"]["members"][0]
    trained = {name: files.read_json(paths.model_metrics(name)) for name in settings.models()}
    shipped = {arm: comparison.best_seed(names, trained) for arm, names in settings.student_arms().items()}

    of_teachers = _cached_logits(settings, info)
    methods = [
        Method(name, "teacher", comparison.alone(name), metrics.log_softmax(member)[None])
        for name, member in zip(settings.teachers, of_teachers, strict=True)
    ]
    for way in ensemble.METHODS:
        system = Ensemble(**fitted[way])
        methods.append(Method(way, "ensemble", system, system.log_probs(of_teachers)[None]))
    for arm, names in settings.student_arms().items():
        shipped_first = [shipped[arm], *(name for name in names if name != shipped[arm])]
        of_seeds = [latency.onnx_logits(paths.onnx(name), test.images) for name in shipped_first]
        log_probs = metrics.log_softmax(np.stack(of_seeds))
        methods.append(Method(arm, "student", comparison.alone(shipped[arm]), log_probs))

    onnx = {member: paths.onnx(member) for method in methods for member in method.system.members}
    print(f"timing {len(methods)} methods in a process of their own", flush=True)
    with ProcessPoolExecutor(1, get_context("spawn")) as clean_process:
        images = np.array(test.images[: max(settings.benchmark.calls)])
        systems = {method.name: method.system for method in methods}
        speed = clean_process.submit(latency.measure, systems, onnx, images, settings.benchmark).result()
    rows = comparison.table(
        methods,
        test.labels,
        parameters={name: scores["parameters"] for name, scores in trained.items()},
        size_bytes={name: path.stat().st_size for name, path in onnx.items()},
        speed=speed,
        teacher=best,
        ensemble=chosen,
        resamples=settings.benchmark.bootstrap,
        seed=derive(settings.seed, "bootstrap"),
    )
    _write(rows, methods, info.classes, test.labels)
    files.write_json(paths.SUMMARY, {"best_single": best, "chosen_ensemble": chosen, "shipped": shipped,
                                     "test": comparison.headline(rows)})  # fmt: skip
    tracking.log(
        record,
        paths.record("benchmark"),
        settings.tracking,
        params={"benchmark": settings.benchmark, "best_single": best, "chosen": chosen, "shipped": shipped},
        metrics=tracking.by_metric("test", comparison.headline(rows)),
        artifacts=[paths.BENCHMARK_CSV, paths.BENCHMARK_MARKDOWN, paths.TRADE_OFF, paths.RELIABILITY, paths.CONFUSION],
    )


def _cached_logits(settings: params.Params, info: data.Info) -> np.ndarray:
    """(members, samples, classes) the teachers' logits of test."""
    looks, cached = Looks.cached(settings.views, settings.seed), []
    for name in settings.teachers:
        origin = logits.Origin.of(paths.weights(name), info, looks, settings.logits)
        rows = logits.open_cache(paths.logits(name), "test", origin)[0]
        cached.append(topk.decode(rows, len(info.classes)))
    return np.stack(cached).astype(np.float64)


def _write(rows: pd.DataFrame, methods: list[Method], classes: list[str], labels: np.ndarray) -> None:
    with files.replacing(paths.BENCHMARK_CSV) as temporary:
        rows.to_csv(temporary, index=False)
    files.write_text(paths.BENCHMARK_MARKDOWN, report.markdown(rows, len(labels)))
    report.trade_off(rows, paths.TRADE_OFF)
    shown = {report.TITLES[m.name]: metrics.reliability(m.log_probs[0], labels) for m in methods if m.kind != "teacher"}
    report.reliability(shown, paths.RELIABILITY)
    last = methods[-1]
    predicted = last.log_probs[0].argmax(axis=1)
    heading = f"{report.TITLES[last.name]}, the seed that ships"
    report.confusion(metrics.confusion(predicted, labels, len(classes)), classes, heading, paths.CONFUSION)


if __name__ == "__main__":
    errors.run(main)
