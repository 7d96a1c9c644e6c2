"""DVC's own files, which it writes in place: what a kill leaves of them stops it, until `make repro` has mended them.

dvc.lock is emptied before it is written anew, so every stage keeps a copy of it while it is whole. DVC's list of who
reads and writes what, and an entry of its run cache that was begun, hold nothing that is needed and go.
"""

import contextlib
import json
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from pipeline.project import files, paths

COPY, BUSY = Path(".dvc/tmp/whole.lock"), Path(".dvc/tmp/rwlock")
WRITING = 1.0  # seconds within which whoever is writing one of these is done


def keep() -> None:
    """Copy dvc.lock unless it has been cut short, or is being written."""
    if paths.DVC_LOCK.exists() and (content := paths.DVC_LOCK.read_bytes()).endswith(b"\n"):
        COPY.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{COPY}.guard"), files.atomic_write(COPY) as temporary:  # stages and ranks begin together
            temporary.write_bytes(content)


def digest(folder: str) -> str | None:
    """The checksum of a folder of images that DVC tracks, or None."""
    path = Path(os.path.normpath(folder) + ".dvc")
    return YAML(typ="safe").load(path.read_bytes())["outs"][0]["md5"] if path.exists() else None


def enter(entries: dict[str, Any]) -> None:
    """Put stages' entries into dvc.lock, whole or not at all, in the bytes that DVC writes, which takes it longer."""
    lock = YAML(typ="safe").load(paths.DVC_LOCK.read_bytes()) if paths.DVC_LOCK.exists() else None
    lock = lock or {"schema": "2.0"}
    lock["stages"] = lock.get("stages", {}) | entries
    writer = YAML(typ="safe", pure=True)  # the other one writes a space behind a key without a value
    writer.Representer = _Representer
    writer.default_flow_style, writer.allow_unicode, writer.sort_base_mapping_type_on_output = False, True, False
    with files.atomic_write(paths.DVC_LOCK) as temporary:
        writer.dump(lock, temporary)


class _Representer(SafeRepresenter):
    """Writes null as nothing and an ordered mapping as any other, as DVC does."""

    def nothing(self, _: None) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:null", "")


_Representer.add_representer(type(None), _Representer.nothing)
_Representer.add_representer(OrderedDict, _Representer.represent_dict)


def mend(run_cache: Path) -> list[str]:
    """Mend what a kill cut short, DVC's run cache being in that folder: a sentence for each thing mended."""
    mended = {
        "dvc.lock was cut short by a kill; going on from its last whole copy": _mend_lock(),
        f"{BUSY} was cut short by a kill; it held nothing that is needed and is gone": _remove(_cut_list),
        "An entry of DVC's run cache was cut short by a kill; it is gone": _remove(lambda: _begun(run_cache)),
    }
    return [sentence for sentence, necessary in mended.items() if necessary]


def _mend_lock() -> bool:
    """Put the copy in place of a dvc.lock that was cut short, or remove it where there is none: was that necessary?

    What the copy does not know yet is made again, from the run cache or from checkpoints.
    """
    if not paths.DVC_LOCK.exists() or _accepted(paths.DVC_LOCK):
        return False
    if COPY.exists() and _accepted(COPY):
        with files.atomic_write(paths.DVC_LOCK) as temporary:
            temporary.write_bytes(COPY.read_bytes())
    else:
        paths.DVC_LOCK.unlink()
    return True


def _remove(cut: Callable[[], set[Path]]) -> bool:
    """Remove what is cut and stays so, as what somebody is writing does not: is any of it gone?"""
    if not (before := cut()):
        return False
    time.sleep(WRITING)
    still = before & cut()
    for path in sorted(still, reverse=True):  # what a folder holds before the folder
        with contextlib.suppress(OSError):  # in a shared cache its owner may be faster, or the only one who may
            path.rmdir() if path.is_dir() else path.unlink()
    return not all(path.exists() for path in still)


def _cut_list() -> set[Path]:
    """DVC's list of who reads and writes what, if it is no JSON: DVC refuses it and does nothing."""
    try:
        json.loads(BUSY.read_bytes())
    except FileNotFoundError:
        return set()
    except ValueError:
        return {BUSY}
    return set()


def _begun(run_cache: Path) -> set[Path]:
    """Entries begun and not ended: DVC fails on a stage whose folder is empty, with `join() argument must be str`."""
    folders = {folder: list(folder.iterdir()) for folder in run_cache.glob("*/*") if folder.is_dir()}
    begun = {path for held in folders.values() for path in held if path.suffix == ".tmp"}
    return begun | {folder for folder, held in folders.items() if not set(held) - begun}


def _accepted(path: Path) -> bool:
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    content = path.read_bytes()
    if b"<<<<<<<" in content:  # git's, for its author to resolve
        return True
    try:
        COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(content))
    except (YAMLError, Invalid):
        return False
    return True
