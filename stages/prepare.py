"""Resolve the source of images, split it, and write memory-mappable arrays."""

from pipeline.images import sources, splits
from pipeline.project import data, errors, files, paths
from pipeline.tracking import store
from stages.starting import start_stage


def main() -> None:
    record, settings = start_stage("prepare")
    source = sources.load(settings.data, paths.RAW)
    positions, labels = splits.split(source, settings.data, settings.seed)
    data.save(source.images, labels, source.classes, positions, paths.PREPARED)
    counts = {f"{name}_samples": int((labels[ids] != data.UNLABELLED).sum()) for name, ids in positions.items()}
    counts["unlabelled_samples"] = len(positions["train"]) - counts["train_samples"]
    counts["skipped_images"] = len(source.skipped)
    report = {**counts, "classes": len(source.classes), **splits.duplicates(source, positions)}
    files.write_json(paths.DATA_REPORT, {**report, "skipped": source.skipped})
    print(", ".join(f"{name} {value}" for name, value in report.items()))
    store.log(
        record,
        paths.record("prepare"),
        settings.tracking,
        params={"seed": settings.seed, "data": settings.data},
        metrics=report,
        artifacts=[paths.DATA_REPORT, paths.PREPARED / "dataset.json"],
    )


if __name__ == "__main__":
    errors.run(main)
