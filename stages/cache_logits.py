"""Let one teacher look once at everything that students will be taught on: `python -m stages.cache_logits NAME`."""

from pipeline import compute, data, errors, logits, metrics, models, params, paths, tracking
from pipeline.students import view_seed


def main(name: str) -> None:
    record = tracking.Record("cache_logits", name)
    settings = params.load()
    device = compute.device(settings.compute)
    model = models.load(paths.weights(name))
    train, val, test = (data.open_split(paths.PREPARED, split) for split in ("train", "val", "test"))
    seed = view_seed(settings.seed)
    arrays = {
        "train": logits.looks(model, train, settings.views, seed, device, name),
        "val": logits.clean(model, val, device),
        "test": logits.clean(model, test, device),
    }
    origin = logits.Origin.of(paths.weights(name), data.open_info(paths.PREPARED), settings.views, seed)
    logits.save(paths.logits(name), arrays, origin)
    on_train = metrics.scores(arrays["train"][0], train.labels)
    on_val = metrics.scores(arrays["val"][0], val.labels)
    print(f"{name}: val accuracy {100 * on_val['accuracy']:.2f} %, looks {arrays['train'].shape[0]}")
    tracking.log(
        record,
        paths.record("cache_logits", name),
        settings.tracking,
        params={"seed": settings.seed, "views": settings.views, "compute": settings.compute},
        metrics={f"train_{k}": v for k, v in on_train.items()} | {f"val_{k}": v for k, v in on_val.items()},
        artifacts=[paths.logits(name) / "manifest.json"],
    )


if __name__ == "__main__":
    errors.run(main)
