"""Choose members and the way to combine them on the validation split, and write the students' targets."""

import time

import numpy as np

from pipeline.ensembles import selection
from pipeline.ensembles.selection import Selection
from pipeline.logits import caching, manifest, targets, topk
from pipeline.params import Params
from pipeline.project import data, errors, files, paths
from pipeline.project.data import Info
from pipeline.project.randomness import derive
from pipeline.reporting import report
from pipeline.scoring import metrics
from pipeline.tracking import store
from pipeline.training import devices, models
from pipeline.training.views import Looks
from stages.beginning import begin


def main() -> None:
    record, settings = begin("fit_ensemble")
    info, val = data.open_info(paths.PREPARED), data.open_split(paths.PREPARED, "val")
    cached, of_val = _caches(settings, info)
    latency, seed = files.read_json(paths.MEMBER_LATENCY), derive(settings.seed, "folds")
    print(f"fitting {', '.join(settings.ensemble.methods)} on {len(val.labels):,} images", flush=True)
    began = time.perf_counter()
    found = selection.select(of_val, val.labels, settings.ensemble, latency, seed)
    seconds = time.perf_counter() - began

    for source in settings.sources():
        teacher = found.teacher(source)
        members = [cached[name] for name in teacher.members]
        targets.write(paths.targets(source), teacher.log_probs, members, len(info.classes), settings.logits.top_k)
    scores = found.scores(val.labels)
    kinds = {"methods": found.fitted, "singles": found.singles}
    files.write_json(
        paths.ENSEMBLES,
        {"chosen": found.chosen, "best": found.best}
        | {kind: {name: one.as_dict() for name, one in ensembles.items()} for kind, ensembles in kinds.items()},
    )
    files.write_json(
        paths.ENSEMBLE_METRICS,
        {"val": scores["held_out"], "gain_over_best_single": found.gain, "oracle_accuracy": found.oracle,
         "contribution": found.contribution},
    )  # fmt: skip
    _draw(found, val.labels)
    print(report.verdict(found))
    fitted = found.fitted[found.chosen]
    store.log(
        record,
        paths.record("fit_ensemble"),
        settings.tracking,
        params={"ensemble": settings.ensemble, "chosen": found.chosen, "best_single": found.best,
                "members": found.members},
        metrics={
            **store.by_metric("val", scores["held_out"]),
            **store.by_metric("val_raw", scores["raw"]),
            **store.by_metric("contribution", found.contribution),
            **{f"weight/{name}": value for name, value in zip(fitted.members, fitted.weights, strict=True)},
            **{f"temperature/{name}": value for name, value in zip(fitted.members, fitted.temperatures, strict=True)},
            **{f"gain_over_best_single/{key}": value for key, value in found.gain.items()},
            "temperature/result": fitted.temperature,
            "oracle_accuracy": found.oracle,
            "fit_seconds": seconds,
        },
        artifacts=[paths.ENSEMBLES, paths.ENSEMBLE_METRICS, paths.SUBSETS, paths.DIVERSITY, paths.SUBSETS_PICTURE,
                   paths.CALIBRATION],
    )  # fmt: skip


def _caches(settings: Params, info: Info) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Each teacher's cached looks at train, and its (samples, classes) logits of val."""
    looks, train = Looks.cached(settings.views, settings.seed), data.open_split(paths.PREPARED, "train")
    cached, of_val, device = {}, {}, devices.device(settings.compute)
    for name in settings.members():
        folder = paths.logits(name)
        weights = [paths.weights(each) for each in settings.with_fold_teachers(name)]
        origin = manifest.Origin.of(weights, info, looks, settings.logits)
        cached[name] = manifest.open_cache(folder, "train", origin)
        teachers = [models.load(path) for path in weights[1:] or weights]
        caching.check(teachers, train, cached[name], looks, device, folder / "train.npy", settings.seed)
        of_val[name] = topk.decode(manifest.open_cache(folder, "val", origin)[0], len(info.classes))
    return cached, of_val


def _draw(found: Selection, labels: np.ndarray) -> None:
    files.write_rows(paths.SUBSETS, found.subsets.to_dict("records"))
    report.subsets(found.subsets, paths.SUBSETS_PICTURE)
    with files.replacing(paths.DIVERSITY) as temporary:
        found.pairs.to_csv(temporary, index=False)
    shown = {
        "before calibration": {**found.raw, "simple": found.held_out["simple"]},
        "after calibration": {name: found.held_out[name] for name in (*found.raw, found.chosen)},
    }
    panels = {
        heading: {name: metrics.reliability(row, labels) for name, row in rows.items()}
        for heading, rows in shown.items()
    }
    report.reliability(panels, paths.CALIBRATION)


if __name__ == "__main__":
    errors.run(main)
