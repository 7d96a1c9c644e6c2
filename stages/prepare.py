"""Resolve the source of images, split it, and write memory-mappable arrays."""

from pipeline.images import checks, sources, splits
from pipeline.project import data, errors, files, paths
from pipeline.tracking import store
from stages.starting import start_stage


def main() -> None:
    record, settings = start_stage("prepare")
    asked = settings.data
    source = sources.load(asked, paths.RAW)
    positions, labels = splits.split(source, asked, settings.seed)
    digests = checks.digests(source.images)
    notes = checks.notes(source, digests, positions)
    whole = source.whole(positions["train"], asked.stored_size) if asked.stored_size else None
    reading = {"background": asked.background, "bits": asked.bits or sources.DEEP}
    data.save(source.images, labels, source.classes, positions, paths.PREPARED, whole, **reading)
    counts = {f"{name}_samples": int((labels[ids] != data.UNLABELLED).sum()) for name, ids in positions.items()}
    counts["unlabelled_samples"] = len(positions["train"]) - counts["train_samples"]
    counts["skipped_images"] = len(source.skipped)
    report = {**counts, "classes": len(source.classes), **checks.duplicates(digests, positions)}
    files.write_json(paths.DATA_REPORT, {**report, "notes": notes, "skipped": source.skipped})
    print(", ".join(f"{name} {value}" for name, value in report.items()))
    for note in notes:
        print(f"note: {note}")
    store.log(
        record,
        paths.record("prepare"),
        settings.tracking,
        params={"seed": settings.seed, "data": asked},
        metrics=report,
        artifacts=[paths.DATA_REPORT, paths.PREPARED / "dataset.json"],
    )


if __name__ == "__main__":
    errors.run(main)
