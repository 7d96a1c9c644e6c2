"""A project of one's own images under version control: sweeps, clones, remotes, CI, and what a change reruns."""

import json
import shutil
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages import dvc_files
from tests.conftest import CHECKOUT, commit, copy_checkout, copy_digits, repro, repro_in_parallel, run, stages_run
from tests.stages.test_end_to_end import replace
from tests.stages.test_import import drawn

CLASSES = {"cat": 44, "dog": 40}


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """A copy of the checkout in which images were imported, nothing committed since, and every stage has run."""
    folder = tmp_path_factory.mktemp("own")
    root = copy_checkout(folder / "project")
    images = drawn(folder / "flowers", CLASSES)
    done = run(sys.executable, "-m", "stages.import_images", str(images), cwd=root)
    assert done.returncode == 0, done.stderr
    smoke = (root / "profiles/smoke.yaml").read_text()
    data = "data: {source: image_folder, path: data/images, unlabelled: data/none/unlabelled, "
    assert smoke.count("data: {source: digits, path: data/none/images, unlabelled: data/none/unlabelled, ") == 1
    own = smoke.replace("data: {source: digits, path: data/none/images, unlabelled: data/none/unlabelled, ", data)
    (root / "params.yaml").write_text(own)
    assert "prepare" in repro_in_parallel(root)
    return root


@pytest.fixture
def mine(own, tmp_path) -> Path:
    """A copy of it to change, committed."""
    root = copy_digits(own, tmp_path / "project")
    commit(root)
    return root


def save(path: Path, seed: int) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 12, 3), np.uint8)).save(path)


def status(root: Path) -> dict:
    return json.loads(run("dvc", "status", "--json", cwd=root).stdout)


def clone(root: Path, target: Path) -> Path:
    assert run("git", "clone", "-q", str(root), str(target), cwd=root).returncode == 0
    return target


@pytest.mark.long
def test_the_digest_of_the_images_is_a_param_of_the_version(own):
    with sqlite3.connect(own / "mlflow.db") as store:
        values = store.execute("select value from params where key = 'data.path_md5'").fetchall()
    told = (own / "data/images.dvc").read_text()
    assert len(values) == 1 and f"md5: {values[0][0]}\n" in told


@pytest.mark.long
def test_a_sweep_has_the_images(own, tmp_path):
    root = copy_digits(own, tmp_path / "project")  # what was imported is staged, not committed
    for words in (("--queue", "-S", "distill.temperature=1.0,3.0", "score_students"), ("--run-all",)):
        done = run("dvc", "exp", "run", *words, cwd=root)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    shown = json.loads(run("dvc", "exp", "show", "--json", cwd=root).stdout)
    assert str(shown).count("metrics/students.json") >= 3  # the workspace's and both experiments'


@pytest.mark.long
def test_a_clone_with_a_remote_has_the_images_and_runs_nothing(mine, tmp_path):
    for words in (["remote", "add", "-d", "shared", str(tmp_path / "remote")], ["push", "-q"]):
        assert run("dvc", *words, cwd=mine).returncode == 0
    commit(mine)
    pulled = clone(mine, tmp_path / "pulled")
    assert run("dvc", "pull", "-q", cwd=pulled).returncode == 0
    assert contents(pulled) == contents(mine)
    assert status(pulled) == {} and repro(pulled) == []
    assert run("git", "status", "--porcelain", cwd=pulled).stdout == ""

    fetched = clone(mine, tmp_path / "fetched")  # nobody pulls: the images come when a stage reads them
    replace(fetched, "val_fraction: 0.25", "val_fraction: 0.26")
    done = run(sys.executable, "-m", "stages.parallel", "2", "prepare", cwd=fetched)
    assert done.returncode == 0, done.stdout + done.stderr
    assert stages_run(done.stdout) == ["prepare"] and contents(fetched) == contents(mine)


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in (root / "data/images").rglob("*.png")}


@pytest.mark.long
def test_ci_reviews_a_project_of_own_images(mine, tmp_path):
    root = clone(mine, tmp_path / "clone")
    shutil.copytree(mine / ".dvc/cache", root / ".dvc/cache")  # as the workflow restores it
    assert run("git", "branch", "base", cwd=root).returncode == 0
    done = run(sys.executable, ".ci/repro", "--base", "base", cwd=root)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert stages_run(done.stdout) == [] and "Nothing changed since base" in (root / "review.md").read_text()
    assert contents(root) == contents(mine)


@pytest.mark.long
def test_images_that_changed_are_taken_up_and_retrain_and_clutter_does_not(mine):
    (mine / "data/images/.DS_Store").write_bytes(b"x")
    (mine / "data/images/cat/Thumbs.db").write_bytes(b"x")
    assert status(mine) == {}
    before = dvc_files.digest(str(mine / "data/images"))
    save(mine / "data/images/cat/new.png", 1)
    (mine / "data/images/dog/1.png").rename(mine / "data/images/cat/moved.png")
    ran = repro_in_parallel(mine)
    assert {"prepare", "train_teacher@resnet", "train_baseline@0", "score_students"} <= set(ran)
    assert dvc_files.digest(str(mine / "data/images")) != before
    assert status(mine) == {}
    labelled = json.loads((mine / "metrics/data.json").read_text())
    assert sum(labelled[f"{name}_samples"] for name in ("train", "val", "test")) == sum(CLASSES.values()) + 1


@pytest.fixture
def toy(tmp_path):
    """A project with the checkout's code and params, and a stage that reads images which DVC tracks."""
    for package in ("pipeline", "stages"):
        (tmp_path / package).symlink_to(CHECKOUT / package)
    shutil.copy(CHECKOUT / "params.yaml", tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {look: {cmd: sh look.sh, deps: [images], outs: [seen.txt]}}\n")
    (tmp_path / "look.sh").write_text("ls images > seen.txt\n")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/1.png").write_text("one")
    for words in (("init", "-q", "--no-scm"), ("add", "-q", "images")):
        assert run("dvc", *words, cwd=tmp_path).returncode == 0
    return tmp_path


def parallel_repro(root):
    return run(sys.executable, "-m", "stages.parallel", "2", cwd=root)


def test_images_that_change_while_a_stage_reads_them_fail_it(toy):
    (toy / "look.sh").write_text("ls images > seen.txt\ntest -e images/2.png || echo two > images/2.png\n")
    done = parallel_repro(toy)
    assert done.returncode == 1 and "images changed while it ran" in done.stdout
    assert parallel_repro(toy).returncode == 0
    assert (toy / "seen.txt").read_text() == "1.png\n2.png\n"


def test_images_come_back_from_the_cache_and_are_missed_with_a_sentence_without_it(toy):
    shutil.rmtree(toy / "images")
    assert parallel_repro(toy).returncode == 0 and (toy / "images/1.png").read_text() == "one"
    shutil.rmtree(toy / "images")
    shutil.rmtree(toy / ".dvc/cache")
    done = parallel_repro(toy)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: images: not here, not in DVC's cache, and not to be had from a remote")


def test_images_that_no_stage_reads_may_be_missing(toy):
    shutil.rmtree(toy / "images")
    shutil.rmtree(toy / ".dvc/cache")
    (toy / "dvc.yaml").write_text("stages: {look: {cmd: echo > seen.txt, outs: [seen.txt]}}\n")
    done = parallel_repro(toy)
    assert done.returncode == 0, done.stdout + done.stderr


def test_images_that_changed_are_told_as_such(toy):
    assert parallel_repro(toy).returncode == 0
    (toy / "images/2.png").write_text("two")
    done = parallel_repro(toy)
    assert "taken as it is now" in done.stdout and "run cache" not in done.stdout
    assert (toy / "seen.txt").read_text() == "1.png\n2.png\n"
