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


@contextmanager
def checkout(profile: str) -> Iterator[Path]:
    """The folder of a copy to which that profile was applied; it is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
        for name in filter(None, listed.split("\0")):
            if Path(name) != paths.DVC_LOCK and Path(name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(name, root / name)
        if paths.RAW.is_dir():
            shutil.copytree(paths.RAW, root / paths.RAW, dirs_exist_ok=True)
        (root / "profiles/scratch.yaml").write_text(profile, encoding="utf-8")
        run(root, "git", "init", "-q")
        run(root, sys.executable, "-m", "stages.wiring", "--profile", "profiles/scratch.yaml")
        yield root


def run(root: Path, *words: str) -> None:
    """Run a command of this Python's environment there; one that fails is a PipelineError."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "DVC_"))}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    result = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True)
    if result.returncode:
        raise PipelineError(f"`{' '.join(words)}` failed: {result.stderr[-2000:]}")
