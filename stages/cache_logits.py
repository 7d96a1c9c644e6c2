"""Let one teacher look once at everything that students will be taught on: `python -m stages.cache_logits NAME`."""

from pathlib import Path

import numpy as np

from pipeline.logits import caching, manifest, topk
from pipeline.project import data, errors, files, paths
from pipeline.project.data import Split
from pipeline.scoring import metrics
from pipeline.tracking import store
from pipeline.training import models, ranks
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.views import Looks
from stages.beginning import begin

SCORED = 10_000  # samples whose cached logits are scored for the log


def main(name: str) -> None:
    record, settings = begin("cache_logits", name)
    together, device = ranks.start(settings.compute)
    info = data.open_info(paths.PREPARED)
    weights = [paths.weights(each) for each in settings.with_fold_teachers(name)]
    teacher, *out_of_fold = [models.load(path) for path in weights]
    looks = Looks.cached(settings.views, settings.seed)
    folder, scores, checkpoints = paths.logits(name), {}, []
    origin = manifest.Origin.of(weights, info, looks, settings.logits)
    for split, seen in (("train", looks), ("val", None), ("test", None)):
        images, path = data.open_split(paths.PREPARED, split), folder / f"{split}.npy"
        teachers = out_of_fold if split == "train" and out_of_fold else [teacher]
        named = {"top_k": settings.logits.top_k, "device": device, "name": f"{name}: {split}", "seed": settings.seed}
        checkpoint = Checkpoint(paths.checkpoint(path), named["name"], settings.seed, vars(origin), device)
        caching.cache(paths.growing(path), teachers, images, seen, **named, ranks=together, checkpoint=checkpoint)
        checkpoints.append(checkpoint)
        if together.first and split != "test":
            scores |= _scores(paths.growing(path), images, split, len(info.classes))
    if not together.first:
        return
    for split in ("train", "val", "test"):  # only now: DVC removes an interrupted stage's outputs
        paths.growing(folder / f"{split}.npy").replace(folder / f"{split}.npy")
    manifest.seal(folder, origin)
    print(f"{name}: val accuracy {100 * scores['val_accuracy']:.2f} %, looks {looks.count}")
    store.log(
        record,
        paths.record("cache_logits", name),
        settings.tracking,
        params={"seed": settings.seed, "views": settings.views, "logits": settings.logits, "compute": settings.compute},
        metrics=scores,
        artifacts=[folder / "manifest.json"],
    )
    for checkpoint in checkpoints:
        checkpoint.remove()


def _scores(path: Path, images: Split, split: str, classes: int) -> dict[str, float]:
    """How well the cached logits of the first look do, on a sample where there are many."""
    labelled = images.labelled
    some = labelled[np.linspace(0, len(labelled) - 1, min(SCORED, len(labelled))).astype(int)]
    rows = topk.decode(files.open_array(path)[0][some], classes)
    scored = metrics.scores(rows, images.labels[some]) | {"entropy": metrics.entropy(metrics.log_softmax(rows))}
    return {f"{split}_{metric}": value for metric, value in scored.items()}


if __name__ == "__main__":
    errors.run(main)
