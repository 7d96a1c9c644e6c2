"""A scratch copy of the checkout, and one run of the whole pipeline on digits that several tests look at."""

import atexit
import contextlib
import functools
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline.project.paths import WRITTEN
from stages import preload

CHECKOUT = Path(__file__).parents[1]
OF_THE_CALLER = ("MLFLOW_", "DVC_", "GIT_", "GITHUB_")
ARTIFACTS = (  # where MLflow's store has paths of artifacts
    ("experiments", "artifact_location"), ("runs", "artifact_uri"), ("model_versions", "source"),
    ("model_versions", "storage_location"), ("logged_models", "artifact_location"),
)  # fmt: skip


def run(*words: str, cwd: Path, **more: str) -> subprocess.CompletedProcess:
    """Run a command of the venv in `cwd`, tracking in its own SQLite unless `more`, of the environment, says so."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(OF_THE_CALLER)}
    return subprocess.run(words, cwd=cwd, env=environment | {"PATH": path} | more, capture_output=True, text=True)


def run_stage(words: str, cwd: Path, **more: str) -> subprocess.CompletedProcess:
    """`python -m stages.WORDS`, with its libraries loaded, as `make repro` starts stages."""
    return run(sys.executable, "-m", *f"stages.{words}".split(), cwd=cwd, **_loaded(), **more)


@functools.cache
def _loaded() -> dict[str, str]:
    """The environment of commands that are forks of a process that has the libraries, once for all tests."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    with contextlib.chdir(CHECKOUT):
        process = stack.enter_context(preload.start())
    return process.environment if process else {}


def copy_checkout(target: Path) -> Path:
    """What git tracks or would track, as a repository of its own."""
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=CHECKOUT).stdout
    for name in filter(None, listed.split("\0")):
        if (CHECKOUT / name).is_file() and not name.endswith(".dvc"):  # images of the checkout's user stay there
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, target / name)
    (target / "dvc.lock").unlink(missing_ok=True)
    for words in ("init -q", "config user.name test", "config user.email test@localhost"):
        assert run("git", *words.split(), cwd=target).returncode == 0
    commit(target)
    return target


def commit(root: Path) -> None:
    for words in ("add -A", "commit -qm copy"):
        assert run("git", *words.split(), cwd=root).returncode == 0


def repro(root: Path, *targets: str) -> list[str]:
    """`dvc repro` of everything, or of these and what they need; the stages that ran, in order."""
    return _stages_of("-m", "dvc", "repro", *targets, cwd=root, **_loaded())


def repro_in_parallel(root: Path) -> list[str]:
    """The same of everything, two stages at a time."""
    return _stages_of("-m", "stages.parallel", "2", cwd=root)


def _stages_of(*words: str, cwd: Path, **more: str) -> list[str]:
    result = run(sys.executable, *words, cwd=cwd, **more)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return stages_run(result.stdout)


def stages_run(output: str) -> list[str]:
    """The stages that ran, by what `dvc repro` or stages.parallel printed."""
    return re.findall(r"Running stage '(.+)':", output)


def of_digits(root: Path) -> Path:
    """A copy of the checkout with the smoke profile, every method, two taught arms and a deep ensemble; nothing ran."""
    copy_checkout(root)
    smoke = root / "profiles/smoke.yaml"
    more = smoke.read_text()
    for old, new in (
        ("sources: [ensemble]", "sources: [single, ensemble]"),
        ("methods: [weighted], ", ""),
        ("  resnet: {", "  resnet_0: &resnet {"),
        ("  byobnet:", "  resnet_1: {<<: *resnet, seed: 1}\n  byobnet:"),
    ):
        assert more.count(old) == 1, old
        more = more.replace(old, new)
    smoke.write_text(more)
    return with_smoke(root)


def with_smoke(root: Path) -> Path:
    """The same checkout with the smoke profile; nothing has run."""
    shutil.copy(root / "profiles/smoke.yaml", root / "params.yaml")
    return root


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Path]:
    """The root of a copy in which every stage has run on digits, two at a time. All workers share it for reading."""
    folder = tmp_path_factory.getbasetemp()
    root = (folder if worker_id == "master" else folder.parent) / "digits"
    with FileLock(f"{root}.lock"):
        if not root.with_suffix(".whole").exists():
            repro_in_parallel(of_digits(root))
            commit(root)
            root.with_suffix(".whole").touch()
    before = _made(root)
    yield root
    assert _made(root) == before, "a test has changed what all tests share"


def _made(root: Path) -> dict[Path, int]:
    """Every file of the settings and the stages, with the time of its last change."""
    paths = [root / "params.yaml", *(path for name in WRITTEN for path in (root / name).rglob("*"))]
    return {path: path.stat().st_mtime_ns for path in paths if path.is_file()}


@pytest.fixture
def own_digits(digits: Path, tmp_path: Path) -> Path:
    """A copy of it to change."""
    return copy_digits(digits, tmp_path / "digits")


def copy_digits(digits: Path, root: Path) -> Path:
    """A copy with a store of its own: MLflow keeps absolute paths."""
    shutil.copytree(digits, root, symlinks=True)
    with contextlib.closing(sqlite3.connect(root / "mlflow.db")) as store, store:
        for table, column in ARTIFACTS:
            store.execute(f"update {table} set {column} = replace({column}, ?, ?)", (str(digits), str(root)))  # noqa: S608
    return root


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the working directory, tracking in its own SQLite."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path
