"""Combine the teachers on the validation split, compare the ways by cross-fitting, and write the students' targets."""

import numpy as np

from pipeline import (
    caching,
    compute,
    data,
    ensemble,
    errors,
    files,
    logits,
    metrics,
    models,
    params,
    paths,
    targets,
    topk,
    tracking,
)
from pipeline.randomness import derive
from pipeline.views import Looks


def main() -> None:
    record = tracking.Record("fit_ensemble")
    settings = params.load()
    info, val = data.open_info(paths.PREPARED), data.open_split(paths.PREPARED, "val")
    names, folds = list(settings.teachers), settings.ensemble.folds
    train, device = data.open_split(paths.PREPARED, "train"), compute.device(settings.compute)
    looks = Looks.cached(settings.views, settings.seed)
    cached, of_val = {}, []
    for name in names:
        folder = paths.logits(name)
        origin = logits.Origin.of(paths.weights(name), info, looks, settings.logits)
        cached[name] = logits.open_cache(folder, "train", origin)
        caching.check(models.load(paths.weights(name)), train, cached[name], looks, device, folder / "train.npy")
        of_val.append(topk.decode(logits.open_cache(folder, "val", origin)[0], len(info.classes)))
    on_val = np.stack(of_val).astype(np.float64)  # (members, samples, classes)

    fold_seed = derive(settings.seed, "folds")
    held_out = {
        **{name: ensemble.cross_fit("weighted", [name], on_val[[i]], val.labels, folds, fold_seed)
           for i, name in enumerate(names)},
        **{way: ensemble.cross_fit(way, names, on_val, val.labels, folds, fold_seed) for way in ensemble.METHODS},
    }  # fmt: skip
    scores = {name: metrics.scores(log_probs, val.labels) for name, log_probs in held_out.items()}
    best = max(names, key=lambda name: (scores[name]["accuracy"], -scores[name]["nll"]))
    chosen = settings.ensemble.select
    if chosen == "auto":
        chosen = min(ensemble.METHODS, key=lambda way: scores[way]["nll"])
    fitted = {way: ensemble.fit(way, names, on_val, val.labels) for way in ensemble.METHODS}
    fitted["single"] = ensemble.fit("weighted", [best], on_val[[names.index(best)]], val.labels)

    for source, teacher in (("single", fitted["single"]), ("ensemble", fitted[chosen])):
        members = [cached[name] for name in teacher.members]
        targets.write(paths.targets(source), teacher, members, len(info.classes), settings.logits.top_k)
    files.write_json(paths.ENSEMBLES, {"chosen": chosen, **{name: value.as_dict() for name, value in fitted.items()}})
    files.write_json(paths.ENSEMBLE_METRICS, {"val": scores})
    weights = dict(zip(names, fitted["weighted"].weights, strict=True))
    print(f"best single teacher on val: {best}; the ensemble that teaches: {chosen}; fitted weights: {weights}")
    tracking.log(
        record,
        paths.record("fit_ensemble"),
        settings.tracking,
        params={"ensemble": settings.ensemble, "chosen": chosen, "best_single": best},
        metrics=tracking.by_metric("val", scores) | {f"weight/{name}": weight for name, weight in weights.items()},
        artifacts=[paths.ENSEMBLES, paths.ENSEMBLE_METRICS],
    )


if __name__ == "__main__":
    errors.run(main)
