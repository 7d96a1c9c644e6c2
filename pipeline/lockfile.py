"""dvc.lock, which DVC empties before it writes it anew: a process killed in between leaves it cut short.

So every stage keeps a copy of it while it is whole, and `make repro` goes on from that. DVC's list of who reads and
writes what is written in the same way, and needs no copy.
"""

import json
import time
from pathlib import Path

import yaml
from filelock import FileLock

from pipeline import files, paths

COPY, BUSY = Path(".dvc/tmp/whole.lock"), Path(".dvc/tmp/rwlock")
WRITING = 1.0  # seconds within which whoever is writing BUSY is done


def keep() -> None:
    """Copy dvc.lock unless it has been cut short, or is being written."""
    if paths.DVC_LOCK.exists() and (content := paths.DVC_LOCK.read_bytes()).endswith(b"\n"):
        COPY.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{COPY}.guard"), files.replacing(COPY) as temporary:  # stages and ranks begin together
            temporary.write_bytes(content)


def mend() -> bool:
    """Put the copy in place of a dvc.lock that was cut short, or remove it where there is none: was that necessary?

    What the copy does not know yet is made again, from the run cache or from checkpoints.
    """
    if not paths.DVC_LOCK.exists() or _accepted(paths.DVC_LOCK):
        return False
    if COPY.exists() and _accepted(COPY):
        with files.replacing(paths.DVC_LOCK) as temporary:
            temporary.write_bytes(COPY.read_bytes())
    else:
        paths.DVC_LOCK.unlink()
    return True


def free() -> bool:
    """Remove DVC's list of who reads and writes what if it was cut short: was that necessary?

    DVC refuses it and does nothing; what it held was of processes that are gone.
    """
    if _is_json(BUSY):
        return False
    time.sleep(WRITING)
    if _is_json(BUSY):
        return False
    BUSY.unlink(missing_ok=True)
    return True


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    return True


def _accepted(path: Path) -> bool:
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    content = path.read_bytes()
    if b"<<<<<<<" in content:  # git's, for its author to resolve
        return True
    try:
        COMPILED_LOCKFILE_SCHEMA(yaml.load(content, Loader=yaml.CSafeLoader))
    except (yaml.YAMLError, Invalid):
        return False
    return True
