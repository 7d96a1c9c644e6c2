"""One's own labelled images: a folder per class, or a table of paths and labels."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pipeline.images import decoding, listing
from pipeline.images.listing import File, Listed
from pipeline.project import errors
from pipeline.project.errors import PipelineError

SPLITS = {  # and what they are called, in any case
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
CALLED = {word: split for split, words in SPLITS.items() for word in words}
COLUMNS = ("path", "label")
MORE_COLUMNS = ("split", "group")


def from_folders(folder: Path, group: str | None) -> Listed:
    """One folder per class, or folders of such that are named as splits are.

    Args:
        group: as of `data.group`: "prefix", of a file's name before its first _ or -; "folder", below the class.
    """
    if not folder.is_dir():
        raise PipelineError(f"`data.path` is {folder}, which is no folder; it should hold one folder per class.")
    files, misplaced, notes, of_classes = [], [], [], {}
    roots = _roots(folder)
    for path in decoding.files_below(folder):
        split, root = next((each for each in roots if path.is_relative_to(each[1])), ("", folder))
        inside = path.relative_to(root).parts
        if len(inside) > 1:
            files.append(File(path, inside[0], "" if split == "train" else split, _group(path, inside, group)))
            of_classes[root / inside[0]] = True
        elif path.suffix.lower() in decoding.SUFFIXES:
            misplaced.append(f"{errors.printable(path)} lies beside the folders of classes, so it has no class.")
        else:
            notes.append(
                f"{errors.printable(path)} lies beside the folders of classes and is no image; it is not read."
            )
    for _, root in roots:
        for inside in sorted(root.iterdir()):
            if inside.is_dir() and inside not in of_classes and not decoding.is_clutter(inside.name):
                raise PipelineError(f"{inside} holds no image; take the folder out or fill it.")
    if not any(file.fixed == "" for file in files):
        raise PipelineError(f"{roots[0][1]} has no images; it should hold one folder per class with images inside.")
    return listing.from_files(_in_order(files), roots[0][1], misplaced, notes)


def _roots(folder: Path) -> list[tuple[str, Path]]:
    """Each split's folder, or the folder itself as train's."""
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and not decoding.is_clutter(path.name)]
    roots = [(CALLED[path.name.lower()], path) for path in inside if path.name.lower() in CALLED]
    if not roots:
        return [("train", folder)]
    others = [path.name for path in inside if path.name.lower() not in CALLED]
    if others:
        raise PipelineError(
            f"{folder} has the folder `{roots[0][1].name}`, the name of a split, beside {_quoted(others)}; if these "
            f"are classes, rename `{roots[0][1].name}`, and if it is a split, take them out."
        )
    for split in SPLITS:
        same = [path.name for name, path in roots if name == split]
        if len(same) > 1:
            raise PipelineError(f"{folder} has {_quoted(same)}, names of one split; put their images into one of them.")
    if "train" not in dict(roots):
        raise PipelineError(f"{folder} has a folder `{roots[0][1].name}` but no folder `train`.")
    return sorted(roots, key=lambda root: list(SPLITS).index(root[0]))


def _quoted(names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _group(path: Path, inside: tuple[str, ...], group: str | None) -> str:
    if group == "folder":
        if len(inside) < 3:
            raise PipelineError(f"{path} lies in no folder below its class, by which `data.group: folder` groups.")
        return inside[1]
    if group == "prefix":
        return path.stem.replace("-", "_").partition("_")[0]
    return ""


def _in_order(files: list[File]) -> list[File]:
    return sorted(files, key=lambda file: (list(SPLITS).index(file.fixed or "train"), file.path))


def from_table(folder: Path, name: str, group: str | None) -> Listed:
    """A table of image files below its folder: `path`, `label` and, if it likes, `split` and `group`.

    Rows are taken in the order of their paths, so that the same table in another order is the same data. Rows of train
    stay in train where others leave their split open, and are drawn from where none does.

    Args:
        group: as of `data.group`: "column", the table's; "prefix" and "folder" as of `from_folders`.
    """
    table, rows, of_groups = folder / name, {}, False
    for line, row in _rows(table):
        label, split = row["label"].strip(), row.get("split", "").strip()
        of_groups |= bool(row.get("group", "").strip())
        for column in COLUMNS:
            if not row[column].strip():
                raise PipelineError(f"{table}, line {line}: `{column}` is blank.")
        if split and split.lower() not in CALLED:
            raise PipelineError(f"{table}, line {line}: `split` is {split!r}; it should be train, val, test or blank.")
        path = _inside(folder, row["path"].strip(), f"{table}, line {line}")
        if path in rows:
            raise PipelineError(f"{table}, line {line}: {path} has stood in line {rows[path][0]} already.")
        rows[path] = line, label, CALLED.get(split.lower(), ""), _group_of_row(table, line, row, path, group)
    open_ended = any(split == "" for _, _, split, _ in rows.values())
    if not any(split in ("", "train") for _, _, split, _ in rows.values()):
        raise PipelineError(f"{table} has no rows of training images.")
    files = [
        File(folder / path, label, "" if split == "train" and not open_ended else split, of_group)
        for path, (_, label, split, of_group) in rows.items()
    ]
    notes = _not_named(folder, table, rows)
    if of_groups and group != "column":
        notes.append(f"{table} has a column `group`, which `data.group: column` would keep together; it is not used.")
    return listing.from_files(_in_order(files), table, [], notes)


def _inside(folder: Path, named: str, where: str) -> PurePosixPath:
    """The path below the folder, however it is written."""
    if "\\" in named and not (folder / named).exists():
        named = named.replace("\\", "/")
    absolute = Path(os.path.normpath(folder.absolute() / named))
    if not absolute.is_relative_to(folder.absolute()):
        raise PipelineError(f"{where}: {named} is outside of {folder}, the folder of the table.")
    return PurePosixPath(absolute.relative_to(folder.absolute()))


def _group_of_row(table: Path, line: int, row: dict[str, str], path: PurePosixPath, group: str | None) -> str:
    if group != "column":
        return _group(Path(path), ("", *path.parts), group)
    if not row.get("group", "").strip():
        raise PipelineError(f"{table}, line {line}: `group` is missing, by which `data.group: column` groups.")
    return row["group"].strip()


def _not_named(folder: Path, table: Path, rows: dict) -> list[str]:
    """A note if the folder has images that the table leaves out."""
    images = [path for path in decoding.files_below(folder) if path.suffix.lower() in decoding.SUFFIXES]
    left = [path for path in images if PurePosixPath(path.relative_to(folder)) not in rows]
    if not left:
        return []
    return [f"{len(left):,} of {len(images):,} images below {folder} have no row in {table.name} and are not read; "
            f"the first is {errors.printable(left[0])}."]  # fmt: skip


def _rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a csv file with the columns of `from_table`, each with its line."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = [column.strip() for column in reader.fieldnames or []]
            reader.fieldnames = columns
            for column in COLUMNS:
                if column not in columns:
                    raise PipelineError(f"{table} has no column `{column}`; it has {', '.join(columns) or 'no line'}.")
            for column in columns:
                if column not in (*COLUMNS, *MORE_COLUMNS) or columns.count(column) > 1:
                    known = ", ".join((*COLUMNS, *MORE_COLUMNS))
                    raise PipelineError(f"{table} has a column {column!r} too many; known are {known}.")
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
