"""Whether what a stage is about to read still is what other stages wrote: DVC compares times, this compares bytes."""

import hashlib
import time
from pathlib import Path
from typing import Any

import yaml

from pipeline.project import paths
from pipeline.project.errors import PipelineError
from pipeline.reporting import graph

REWRITTEN = 1.0  # seconds that DVC may take to write dvc.lock while a stage beside it reads it


def check(stage: str, item: str, settings: dict[str, Any]) -> None:
    """Compare every file that this execution reads with the checksum that dvc.lock has of it.

    A file that dvc.lock does not know, of the user or of a stage that was run by hand, is not compared.

    Args:
        settings: the content of params.yaml, which fills the templates of dvc.yaml.
    Raises:
        PipelineError: a file was damaged or changed after its stage had written it.
    """
    if not paths.DVC_LOCK.exists() or not paths.DVC_YAML.exists():
        return
    read = graph.reads(_load(paths.DVC_YAML)["stages"], settings, f"{stage}@{item}" if item else stage)
    if not _changed(read):
        return
    time.sleep(REWRITTEN)
    for path in _changed(read):
        raise PipelineError(
            f"{path} is not what its stage wrote (its checksum differs from that in dvc.lock); "
            f"delete it and run `dvc repro`."
        )


def _changed(read: set[str]) -> list[str]:
    stages = (_load(paths.DVC_LOCK) or {}).get("stages", {}).values()
    locked = {out["path"]: out.get("md5") for stage in stages for out in stage.get("outs", [])}
    return [path for path in sorted(read) if path in locked and Path(path).is_file() and _md5(path) != locked[path]]


def _load(path: Path) -> Any:
    for last in (False, True):
        try:
            return yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
        except yaml.YAMLError as error:
            if last:
                raise PipelineError(f"{path} is not valid YAML ({error}); `git checkout {path}`.") from None
            time.sleep(REWRITTEN)
    return None


def _md5(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
