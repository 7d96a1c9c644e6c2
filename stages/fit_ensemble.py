"""Combine the teachers on the validation split, compare the ways by cross-fitting, and write the students' targets."""

import numpy as np

from pipeline import data, ensemble, errors, files, logits, metrics, params, paths, tracking
from pipeline.randomness import derive
from pipeline.students import view_seed


def main() -> None:
    record = tracking.Record("fit_ensemble")
    settings = params.load()
    info, val = data.open_info(paths.PREPARED), data.open_split(paths.PREPARED, "val")
    names, folds = list(settings.teachers), settings.ensemble.folds
    cached = {"train": [], "val": []}
    for name in names:
        origin = logits.Origin.of(paths.weights(name), info, settings.views, view_seed(settings.seed))
        for split, arrays in cached.items():
            arrays.append(logits.open_cache(paths.logits(name), split, origin))
    on_val = np.concatenate(cached["val"]).astype(np.float64)  # (members, samples, classes)

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
        members = [cached["train"][names.index(name)] for name in teacher.members]
        looks = [teacher.log_probs(np.stack(look).astype(np.float64)) for look in zip(*members, strict=True)]
        files.write_array(paths.targets(source), np.stack(looks).astype(np.float16))
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
