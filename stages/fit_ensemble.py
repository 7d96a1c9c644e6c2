"""Choose members and the way to combine them on the validation split, and write the students' targets."""

import time

import numpy as np
import pandas as pd

from pipeline.ensembles import fitting, selection
from pipeline.ensembles.ensemble import Ensemble
from pipeline.ensembles.selection import Selection
from pipeline.logits import caching, manifest, targets, topk
from pipeline.logits.caching import Labeller
from pipeline.params import Params
from pipeline.project import data, errors, files, paths
from pipeline.project.data import Info
from pipeline.project.randomness import derive
from pipeline.scoring import metrics
from pipeline.tracking import store
from pipeline.training import devices, models
from pipeline.training.views import Views, mixed_labels
from stages.gathering import drop_stale
from stages.starting import start_stage

CALIBRATED = 10_000  # training images, at most, on which the temperatures of fold teachers are fitted


def main() -> None:
    record, settings = start_stage("fit_ensemble")
    drop_stale(settings)
    info, val = data.open_info(paths.PREPARED), data.open_split(paths.PREPARED, "val")
    cached, of_val = _caches(settings, info)
    latency, seed = files.read_json(paths.MEMBER_LATENCY), derive(settings.seed, "folds")
    print(f"fitting {', '.join(settings.ensemble.methods)} on {len(val.labels):,} images", flush=True)
    began = time.perf_counter()
    selected = selection.select(of_val, val.labels, settings.ensemble, latency, seed)
    seconds = time.perf_counter() - began
    for source in settings.distill.sources:
        teacher = selected.teacher(source)
        members = [cached[name] for name in teacher.members]
        if settings.cross_fit.folds > 1:
            teacher = _of_fold_teachers(teacher, members, settings, info)
        targets.write(paths.targets(source), teacher.log_probs, teacher.temperatures, members, len(info.classes),
                      settings.logits.top_k)  # fmt: skip
    scores = selected.scores(val.labels)
    _write(selected, scores["held_out"], val.labels)
    print(selection.verdict(selected))
    store.log(
        record,
        paths.record("fit_ensemble"),
        settings.tracking,
        params={"ensemble": settings.ensemble, "chosen": selected.chosen, "best_single": selected.best,
                "members": selected.members},
        metrics=_metrics(selected, scores) | {"fit_seconds": seconds},
        artifacts=[paths.ENSEMBLES, paths.ENSEMBLE_METRICS, paths.SUBSETS, paths.DIVERSITY, paths.CALIBRATION_CURVES],
    )  # fmt: skip


def _caches(settings: Params, info: Info) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Each teacher's cached views of train, and its (samples, classes) logits of val."""
    views = _views(settings)
    train, device = data.open_split(paths.PREPARED, "train"), devices.device(settings.compute)
    cached, of_val = {}, {}
    for name in settings.teachers:
        folder, fingerprint = paths.logits(name), manifest.Fingerprint.read(settings, name, info)
        cached[name] = manifest.open_cache(folder, "train", fingerprint)
        labellers = [models.load(paths.weights(each)) for each in settings.fold_teachers(name) or [name]]
        caching.check(Labeller(labellers, device, settings.seed), train, cached[name], views, folder / "train.npy")
        of_val[name] = manifest.open_cache(folder, "val", fingerprint)[0]
    return cached, of_val


def _of_fold_teachers(teacher: Ensemble, cached: list[np.ndarray], settings: Params, info: Info) -> Ensemble:
    """The ensemble with temperatures of the fold teachers, by the first view of images that they did not learn from."""
    train, views = data.open_split(paths.PREPARED, "train"), _views(settings)
    some = train.labelled[np.linspace(0, len(train.labelled) - 1, min(CALIBRATED, len(train.labelled))).astype(int)]
    rows = zip(cached, teacher.temperatures, strict=True)
    logits = np.stack([topk.decode(member[0][some], len(info.classes), temperature) for member, temperature in rows])
    labels = mixed_labels(train.labels, some, 0, views, info.image_size, len(info.classes))
    return fitting.recalibrated(teacher, logits.astype(np.float64), labels, settings.ensemble)


def _views(settings: Params) -> Views:
    return Views.replayed(settings.views, settings.student_views, settings.seed)


def _write(selected: Selection, held_out: dict[str, dict[str, float]], labels: np.ndarray) -> None:
    kinds = {"methods": selected.fitted, "singles": selected.singles}
    ensembles = {kind: {name: one.as_dict() for name, one in each.items()} for kind, each in kinds.items()}
    files.write_json(paths.ENSEMBLES, {"chosen": selected.chosen, "best": selected.best, **ensembles})
    files.write_json(
        paths.ENSEMBLE_METRICS,
        {"val": held_out, "temperatures": selected.temperatures(labels), "gain_over_best_single": selected.gain,
         "oracle_accuracy": selected.oracle, "contribution": selected.contribution},
    )  # fmt: skip
    answers = pd.DataFrame({"label": labels, **{name: row.argmax(axis=1) for name, row in selected.held_out.items()}})
    for path, table in ((paths.SUBSETS, selected.subsets), (paths.DIVERSITY, selected.pairs),
                        (paths.VAL_ANSWERS, answers)):  # fmt: skip
        with files.atomic_write(path) as temporary:
            table.to_csv(temporary, index=False)
    shown = {
        "before calibration": {**selected.raw, "simple": selected.held_out["simple"]},
        "after calibration": {name: selected.held_out[name] for name in (*selected.raw, selected.chosen)},
    }
    files.write_json(
        paths.CALIBRATION_CURVES,
        {heading: {name: metrics.reliability(row, labels) for name, row in rows.items()}
         for heading, rows in shown.items()},
    )  # fmt: skip


def _metrics(selected: Selection, scores: dict[str, dict[str, dict[str, float]]]) -> dict[str, float]:
    chosen = selected.fitted[selected.chosen]
    return {
        **store.by_metric("val", scores["held_out"]),
        **store.by_metric("val_raw", scores["raw"]),
        **store.by_metric("contribution", selected.contribution),
        **{f"weight/{name}": value for name, value in zip(chosen.members, chosen.weights, strict=True)},
        **{f"temperature/{name}": value for name, value in zip(chosen.members, chosen.temperatures, strict=True)},
        **{f"gain_over_best_single/{key}": value for key, value in selected.gain.items()},
        "temperature/result": chosen.temperature,
        "oracle_accuracy": selected.oracle,
    }


if __name__ == "__main__":
    errors.run(main)
