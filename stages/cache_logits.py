"""Let one teacher answer once for everything that students will be taught on: `python -m stages.cache_logits NAME`."""

from pathlib import Path

import numpy as np

from pipeline.logits import caching, manifest, topk
from pipeline.logits.caching import Labeller
from pipeline.logits.manifest import Fingerprint
from pipeline.project import data, errors, files, paths
from pipeline.project.data import Split
from pipeline.scoring import metrics
from pipeline.tracking import store
from pipeline.training import models, ranks
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.views import Views, resolved
from stages.starting import start_stage

SCORED = 10_000  # samples whose cached logits are scored for the log


def main(name: str) -> None:
    record, settings = start_stage("cache_logits", name)
    (together, device), info = ranks.start(settings.compute), data.open_info(paths.PREPARED)
    teacher, *folds = [models.load(paths.weights(each)) for each in (name, *settings.fold_teachers(name))]
    views = Views.replayed(settings.views, settings.student_views, settings.seed)
    folder, scores, checkpoints = paths.logits(name), {}, []
    fingerprint = Fingerprint.read(settings, name, info)
    for split, seen in (("train", views), ("val", None), ("test", None)):
        images, path, title = data.open_split(paths.PREPARED, split), folder / f"{split}.npy", f"{name}: {split}"
        labeller = Labeller(folds if split == "train" and folds else [teacher], device, settings.seed)
        checkpoint = Checkpoint(paths.checkpoint(path), title, settings.seed, vars(fingerprint), device)
        top_k = settings.logits.top_k if split == "train" else None  # temperatures and scores need all of val and test
        caching.cache(paths.growing(path), labeller, images, seen, top_k=top_k, name=title,
                      ranks=together, checkpoint=checkpoint)  # fmt: skip
        checkpoints.append(checkpoint)
        if together.first and split != "test":
            scores |= _scores(paths.growing(path), images, split, len(info.classes))
    if not together.first:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val", "test"):  # only now: DVC removes an interrupted stage's outputs
        paths.growing(folder / f"{split}.npy").replace(folder / f"{split}.npy")
    manifest.seal(folder, fingerprint)
    print(f"{name}: val accuracy {100 * scores['val_accuracy']:.2f} %, views {views.count}")
    store.log(
        record,
        paths.record("cache_logits", name),
        settings.tracking,
        params={"views": resolved(settings.views)}
        | {key: getattr(settings, key) for key in ("seed", "student_views", "logits", "compute")},
        metrics={**scores, "cache_seconds": sum(checkpoint.seconds for checkpoint in checkpoints)},
        artifacts=[folder / "manifest.json"],
    )
    for checkpoint in checkpoints:
        checkpoint.remove()


def _scores(path: Path, images: Split, split: str, classes: int) -> dict[str, float]:
    """How well the cached logits of the first view do, on a sample where there are many."""
    labelled = images.labelled
    some = labelled[np.linspace(0, len(labelled) - 1, min(SCORED, len(labelled))).astype(int)]
    rows = topk.decode(files.open_array(path)[0][some], classes)
    scored = metrics.scores(rows, images.labels[some]) | {"entropy": metrics.entropy(metrics.log_softmax(rows))}
    return {f"{split}_{metric}": value for metric, value in scored.items()}


if __name__ == "__main__":
    errors.run(main)
