"""Files that are either whole or not there."""

import csv
import hashlib
import io
import json
import mmap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from pipeline.project import errors
from pipeline.project.errors import PipelineError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success it becomes `path` in one step, on failure it is removed.

    The name is always the same, so that what a killed process left is written over by the next one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with naming(path):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an OSError the name of the file, which the system tells only where one is opened."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), error.filename or str(path)) from None


def write_text(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise errors.missing(path) from None
    except ValueError:
        raise PipelineError(f"{path} is not valid JSON; delete it and run `dvc repro`.") from None


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write dictionaries that share their keys as CSV."""
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_array(path: Path, array: np.ndarray) -> None:
    write_chunks(path, array.shape, array.dtype, [array])


def write_chunks(path: Path, shape: tuple[int, ...], dtype: np.dtype, chunks: Iterable[np.ndarray]) -> None:
    """Write an array of that shape from consecutive parts of it, never holding more than one of them."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(array_header(shape, dtype))
        for chunk in chunks:
            file.write(np.ascontiguousarray(chunk, dtype))


def array_header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """What stands before the numbers in an .npy file."""
    if dtype.hasobject:
        raise ValueError("an array of objects can only be pickled, and is not written")
    header = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    return header.getvalue()


def open_array(path: Path) -> np.ndarray:
    """Memory-map an array read-only; a missing or cut file is a PipelineError."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise errors.missing(path) from None
    except (ValueError, EOFError, SyntaxError, TokenError):
        raise PipelineError(f"{path} is cut short or is no .npy file; delete it and run `dvc repro`.") from None


def forget(array: np.ndarray) -> None:
    """Give back the memory of a mapped array's pages, which are read again when needed; others are left alone."""
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
