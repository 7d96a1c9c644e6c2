"""A scratch copy of the checkout, and one run of the whole pipeline on digits that several tests look at."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
OF_THE_CALLER = ("MLFLOW_", "DVC_", "GIT_", "GITHUB_")


def run(*words: str, cwd: Path, **more: str) -> subprocess.CompletedProcess:
    """Run a command of the venv in `cwd`, tracking in its own SQLite unless `more`, of the environment, says so."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(OF_THE_CALLER)}
    return subprocess.run(words, cwd=cwd, env=environment | {"PATH": path} | more, capture_output=True, text=True)


def copy_checkout(target: Path) -> Path:
    """What git tracks or would track, as a repository of its own."""
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=CHECKOUT).stdout
    for name in filter(None, listed.split("\0")):
        if (CHECKOUT / name).is_file():
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
    return _stages_of("dvc", "repro", *targets, cwd=root)


def repro_in_parallel(root: Path) -> list[str]:
    """The same of everything, two stages at a time."""
    return _stages_of(sys.executable, "-m", "stages.parallel", "2", cwd=root)


def _stages_of(*words: str, cwd: Path) -> list[str]:
    result = run(*words, cwd=cwd)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return stages_run(result.stdout)


def stages_run(output: str) -> list[str]:
    """The stages that ran, by what `dvc repro` or stages.parallel printed."""
    return re.findall(r"Running stage '(.+)':", output)


def of_digits(root: Path) -> Path:
    """A copy of the checkout with the smoke profile, two taught arms and a deep ensemble; nothing has run."""
    copy_checkout(root)
    smoke = root / "profiles/smoke.yaml"
    more = smoke.read_text().replace("sources: [ensemble]", "sources: [single, ensemble]")
    more = more.replace("  resnet: {", "  resnet_0: &resnet {").replace(
        "  efficientnet:", "  resnet_1: {<<: *resnet, seed: 1}\n  efficientnet:"
    )
    smoke.write_text(more)
    return with_smoke(root)


def with_smoke(root: Path) -> Path:
    """The same checkout with the smoke profile; nothing has run."""
    shutil.copy(root / "profiles/smoke.yaml", root / "params.yaml")
    return root


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a copy in which every stage has run on digits, two at a time."""
    root = of_digits(tmp_path_factory.mktemp("digits"))
    repro_in_parallel(root)
    commit(root)
    return root


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the working directory, tracking in its own SQLite."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path
