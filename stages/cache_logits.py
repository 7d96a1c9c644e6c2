"""Let one teacher look once at everything that students will be taught on: `python -m stages.cache_logits NAME`."""

import numpy as np

from pipeline import caching, compute, data, errors, files, logits, metrics, models, params, paths, topk, tracking
from pipeline.views import Looks

SCORED = 10_000  # samples whose cached logits are scored for the log


def main(name: str) -> None:
    record = tracking.begin("cache_logits", name)
    settings = params.load()
    device = compute.device(settings.compute)
    info = data.open_info(paths.PREPARED)
    weights = [paths.weights(each) for each in settings.with_fold_teachers(name)]
    teacher, *out_of_fold = [models.load(path) for path in weights]
    looks = Looks.cached(settings.views, settings.seed)
    folder, scores = paths.logits(name), {}
    for split, seen in (("train", looks), ("val", None), ("test", None)):
        images, path = data.open_split(paths.PREPARED, split), folder / f"{split}.npy"
        top_k = settings.logits.top_k
        teachers = out_of_fold if split == "train" and out_of_fold else [teacher]
        caching.cache(
            path, teachers, images, seen, top_k=top_k, device=device, name=f"{name}: {split}", seed=settings.seed
        )
        if split != "test":
            labelled = images.labelled
            some = labelled[np.linspace(0, len(labelled) - 1, min(SCORED, len(labelled))).astype(int)]
            rows = topk.decode(files.open_array(path)[0][some], len(info.classes))
            scored = metrics.scores(rows, images.labels[some])
            scored["entropy"] = metrics.entropy(metrics.log_softmax(rows))
            scores |= {f"{split}_{metric}": value for metric, value in scored.items()}
    logits.seal(folder, logits.Origin.of(weights, info, looks, settings.logits))
    print(f"{name}: val accuracy {100 * scores['val_accuracy']:.2f} %, looks {looks.count}")
    tracking.log(
        record,
        paths.record("cache_logits", name),
        settings.tracking,
        params={"seed": settings.seed, "views": settings.views, "logits": settings.logits, "compute": settings.compute},
        metrics=scores,
        artifacts=[folder / "manifest.json"],
    )


if __name__ == "__main__":
    errors.run(main)
