"""A copy of the checkout in which commands can run without touching it."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.project import paths
from pipeline.project.errors import PipelineError

LISTED = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")


@contextmanager
def checkout(params: str) -> Iterator[Path]:
    """The folder of a copy with that params.yaml, which is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        listed = subprocess.run(LISTED, capture_output=True, text=True, check=True).stdout
        for name in filter(None, listed.split("\0")):
            if Path(name) != paths.DVC_LOCK and Path(name).suffix != ".dvc" and Path(name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(name, root / name)
        if paths.RAW.is_dir():
            shutil.copytree(paths.RAW, root / paths.RAW, dirs_exist_ok=True)
        (root / paths.PARAMS).write_text(params, encoding="utf-8")
        run(root, "git", "init", "-q")
        yield root


def run(root: Path, *words: str, **more: str) -> None:
    """Run a command of this Python's environment there; one that fails is a PipelineError. more: of its environment."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "DVC_"))} | more
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    result = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True)
    if result.returncode:
        raise PipelineError(f"`{' '.join(words)}` failed: {result.stderr[-2000:]}")
