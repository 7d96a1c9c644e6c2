"""One's own labelled images: a folder per class, or a table of paths and labels."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pipeline.images import decoding, listing
from pipeline.images.listing import Listed
from pipeline.project.errors import PipelineError

SPLITS = ("train", "val", "test")
COLUMNS = ("path", "label")


def from_folders(folder: Path) -> Listed:
    """One folder per class, or `train`, `val`, `test` folders of such."""
    if not folder.is_dir():
        raise PipelineError(f"`data.path` is {folder}, which is no folder; it should hold one folder per class.")
    splits = [name for name in SPLITS if (folder / name).is_dir()]
    if splits and "train" not in splits:
        raise PipelineError(f"{folder} has a folder `{splits[0]}` but no folder `train`.")
    roots = [(folder / name, "" if name == "train" else name) for name in splits] or [(folder, "")]
    listed = [
        (path, path.relative_to(root).parts[0], fixed)
        for root, fixed in roots
        for path in decoding.image_files(root, "*/**/*")
    ]
    if not any(fixed == "" for _, _, fixed in listed):
        raise PipelineError(f"{roots[0][0]} has no images; it should hold one folder per class with images inside.")
    return listing.from_files(listed, roots[0][0])


def from_table(folder: Path, name: str) -> Listed:
    """A table of image files below its folder: `path`, `label` and, if it likes, `split`.

    Rows are taken in the order of their paths, so that the same table in another order is the same data.
    """
    table, rows = folder / name, {}
    for line, row in _rows(table):
        path, label, split = (row.get(column, "").strip() for column in (*COLUMNS, "split"))
        for column in COLUMNS:
            if not row[column].strip():
                raise PipelineError(f"{table}, line {line}: `{column}` is blank.")
        if split not in ("", *SPLITS):
            raise PipelineError(f"{table}, line {line}: `split` is {split!r}; it should be train, val, test or blank.")
        inside = PurePosixPath(os.path.normpath(path))
        if inside.is_absolute() or ".." in inside.parts:
            raise PipelineError(f"{table}, line {line}: {path} is outside of {folder}, the folder of the table.")
        if inside in rows:
            raise PipelineError(f"{table}, line {line}: {path} has stood in line {rows[inside][0]} already.")
        rows[inside] = line, label, "" if split == "train" else split
    if not any(split == "" for _, _, split in rows.values()):
        raise PipelineError(f"{table} has no rows of training images.")
    order = sorted(rows, key=lambda inside: (SPLITS.index(rows[inside][2] or "train"), inside))
    return listing.from_files([(folder / inside, *rows[inside][1:]) for inside in order], table)


def _rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a csv file with the columns of `from_table`, each with its line."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or []
            for column in COLUMNS:
                if column not in columns:
                    raise PipelineError(f"{table} has no column `{column}`; it has {', '.join(columns) or 'no line'}.")
            for column in columns:
                if column not in (*COLUMNS, "split") or columns.count(column) > 1:
                    raise PipelineError(f"{table} has a column {column!r} too many; known are path, label and split.")
            for row in reader:
                if len(row) != len(columns) or None in row.values():
                    raise PipelineError(f"{table}, line {reader.line_num}: should have {len(columns)} columns.")
                yield reader.line_num, row
    except (FileNotFoundError, NotADirectoryError):
        raise PipelineError(
            f"{table} is missing; `data.path` is the folder of the images and of `data.csv`, a table of them."
        ) from None
    except UnicodeDecodeError:
        raise PipelineError(f"{table} is not UTF-8 text.") from None
    except csv.Error as error:
        raise PipelineError(f"{table}, line {reader.line_num}: not valid CSV: {error}.") from None
