"""Whether what a stage reads is what other stages wrote: DVC compares times, this compares bytes with dvc.lock.

No library does that: DVC trusts a file whose time has not changed, and a copy in its cache that is write-protected.
"""

import hashlib
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.project import paths
from pipeline.project.errors import PipelineError

EXPECTED = "STAGE_INPUTS"  # in the environment: JSON of the checksum by path of what `make repro` lets a stage read
REWRITTEN = 1.0  # seconds that DVC may take to write dvc.lock while a stage beside it reads it


def check(stage: str, words: list[str] | None = None) -> None:
    """Compare all that this execution reads with the checksums that `make repro` knows, or that dvc.lock has of it.

    What dvc.lock does not know, of the user or of a stage that was run by hand, is not compared.

    Args:
        stage: its name in dvc.yaml. words: of its command line, which fill the templates there; None: this process's.
    Raises:
        PipelineError: a file was damaged or changed after its stage had written it. A copy in DVC's cache with the same
            damage is removed, or DVC would restore it.
    """
    words = sys.argv[1:] if words is None else words
    if not any(_changed(_expected(stage, words))):
        return
    time.sleep(REWRITTEN)
    for path, checksum in _changed(_expected(stage, words)):
        cached = " Its copy in DVC's cache had the same damage and is removed." if _remove_damaged(checksum) else ""
        raise PipelineError(
            f"{path} is not what its stage wrote (its checksum differs from that in dvc.lock); delete it and "
            f"run `dvc repro`.{cached}"
        )


def _deps(stage: str, words: list[str]) -> list[PurePosixPath]:
    """What dvc.yaml says the stage reads, each template filled with the word of the command line that it stands for."""
    block = _load(paths.DVC_YAML)["stages"][stage]
    block = block.get("do", block)
    templates = shlex.split(block["cmd"])[-len(words) :] if words else []
    filled = dict(zip(templates, words, strict=True))
    return [PurePosixPath(re.sub(r"\$\{[^}]+\}", lambda template: filled.get(template[0], template[0]), dep))
            for dep in block["deps"]]  # fmt: skip


def _expected(stage: str, words: list[str]) -> dict[str, str]:
    """The checksum of every out that the execution reads, by its path."""
    if EXPECTED in os.environ:
        return json.loads(os.environ[EXPECTED])
    if not paths.DVC_LOCK.exists() or not paths.DVC_YAML.exists():
        return {}
    stages = (_load(paths.DVC_LOCK) or {}).get("stages", {}).values()
    return read_of({out["path"]: out["md5"] for each in stages for out in each.get("outs", [])}, _deps(stage, words))


def read_of(outs: dict[str, str], deps: list[PurePosixPath]) -> dict[str, str]:
    """Those that the deps hold, or that hold a dep."""
    paths_of = {name: PurePosixPath(name) for name in outs}
    return {name: outs[name] for name, path in paths_of.items()
            if any(path.is_relative_to(dep) or dep.is_relative_to(path) for dep in deps)}  # fmt: skip


def _changed(expected: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The outs whose bytes are others, and the checksums they should have."""
    for name, checksum in expected.items():
        if Path(name).exists() and _md5(Path(name)) != checksum:
            yield name, checksum


def _md5(path: Path) -> str:
    """As DVC has it: of a file its bytes', of a folder that of the list of its files."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    inside = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    listing = [{"md5": _md5(file), "relpath": name} for name, file in sorted(inside.items())]
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _remove_damaged(checksum: str) -> bool:
    """Remove the objects of DVC's cache that make up the out of this checksum and are not what they are named by."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            cache = repo.cache.local
    except DvcException:  # a copy of the project's files alone has no cache
        return False

    def at(checksum: str) -> Path:
        return Path(cache.oid_to_path(checksum))

    def damaged(checksum: str) -> bool:
        return at(checksum).is_file() and _md5(at(checksum)) != checksum.removesuffix(".dir")

    parts = [checksum]
    if parts[0].endswith(".dir") and at(parts[0]).is_file() and not damaged(parts[0]):
        parts = [entry["md5"] for entry in json.loads(at(parts[0]).read_bytes())]
    worthless = {checksum for checksum in parts if damaged(checksum)}
    for checksum in worthless:
        at(checksum).unlink()
    return bool(worthless)


def _load(path: Path) -> Any:
    for last in (False, True):
        try:
            return YAML(typ="safe").load(path.read_bytes())
        except YAMLError as error:
            if last:
                reason = " ".join(str(error).split())
                raise PipelineError(f"{path} is not valid YAML ({reason}); `git checkout {path}`.") from None
            time.sleep(REWRITTEN)
    return None
