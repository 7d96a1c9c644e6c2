"""A byte that flips in anything that a stage reads from another is a sentence, and never a number."""

import json
import os
import random
import shutil
import sys

import pytest
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db import HashFileDB
from dvc_objects.fs.local import localfs
from dvc_objects.fs.memory import MemoryFileSystem
from ruamel.yaml import YAML

from pipeline import params
from pipeline.project import inputs
from pipeline.project.errors import PipelineError
from tests.conftest import run, run_stage

TRIALS = 60
GRAPH = """\
stages:
  make:
    foreach: ${teachers}
    do:
      cmd: mkdir -p made/${key}/sub && echo ${key} > made/${key}/x && echo 2 > made/${key}/sub/é
      outs: ['made/${key}']
  file: {cmd: cp start.txt file.txt, deps: [start.txt], outs: [file.txt]}
  teach:
    matrix: {source: [single, ensemble], seed: [0, 1]}
    cmd: mkdir -p taught/${item.source} && echo ${item.seed} > taught/${item.source}/${item.seed}
    outs: ['taught/${item.source}/${item.seed}']
  read:
    foreach: ${teachers}
    do: {cmd: 'python -m stages.read ${key}', deps: [file.txt, 'made/${key}']}
  score:
    matrix: {source: [single, ensemble], seed: [0, 1]}
    cmd: python -m stages.score student ${item.source} ${item.seed}
    deps: ['taught/${item.source}/${item.seed}']
  gather: {cmd: python -m stages.gather, deps: [made]}
  part: {cmd: python -m stages.part, deps: [made/one/sub/é]}
"""
OUTS = [
    "file.txt",
    "made/on",
    "made/one",
    "taught/single/0",
    "taught/single/1",
    "taught/ensemble/0",
    "taught/ensemble/1",
]
EXECUTIONS = [("read", ["on"]), ("read", ["one"]), ("gather", []), ("part", []), ("score", ["student", "single", "1"])]


def dvc_hash(path):
    """By DVC's own function."""
    name = build(HashFileDB(MemoryFileSystem(), "/odb"), str(path.absolute()), localfs, "md5", dry_run=True)[
        2
    ].hash_info
    return name.value


@pytest.fixture
def written(project, monkeypatch):
    """The folder of a project whose stages have written their outputs, with dvc.lock by hand."""
    monkeypatch.setattr(inputs, "REWRITTEN", 0)
    (project / "dvc.yaml").write_text(GRAPH)
    for out in OUTS:
        for path in [project / out / "x", project / out / "sub/é"] if out.startswith("made/") else [project / out]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{path.relative_to(project)}\n")
    outs = [{"path": out, "hash": "md5", "md5": dvc_hash(project / out)} for out in OUTS]
    with (project / "dvc.lock").open("w") as file:
        YAML().dump({"stages": {f"stage{number}": {"outs": [out]} for number, out in enumerate(outs)}}, file)
    return project


@pytest.mark.parametrize(("stage", "words"), EXECUTIONS)
def test_what_other_stages_wrote_passes_folders_by_the_hash_that_dvc_gives_them(written, stage, words):
    inputs.check(stage, words)


CHANGES = {
    "another byte": lambda folder: (folder / "x").write_text("made/ON/x\n"),
    "cut short": lambda folder: (folder / "sub/é").write_text(""),
    "one more": lambda folder: (folder / "sub/y").write_text(""),
    "one less": lambda folder: (folder / "x").unlink(),
    "another name": lambda folder: (folder / "x").rename(folder / "z"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_inside_a_folder_is_found_and_the_sentence_names_it(written, change):
    change(written / "made/on")
    with pytest.raises(
        PipelineError, match=r"made/on is not what its stage wrote .*; delete it and run `dvc repro`\.$"
    ):
        inputs.check("gather", [])


def test_a_changed_file_is_found(written):
    (written / "file.txt").write_text("File.txt\n")
    with pytest.raises(PipelineError, match=r"file\.txt is not what its stage wrote"):
        inputs.check("read", ["one"])


def test_a_stage_that_reads_a_part_of_a_folder_is_told_of_all_of_it(written):
    (written / "made/one/x").write_text("?")
    with pytest.raises(PipelineError, match="made/one is not what"):
        inputs.check("part", [])


def refuses(stage, *words):
    try:
        inputs.check(stage, list(words))
    except PipelineError:
        return True
    return False


def test_the_words_of_the_command_line_fill_the_templates(written):
    (written / "made/one/x").write_text("?")
    (written / "taught/ensemble/1").write_text("?")
    assert [refuses("read", name) for name in ("on", "one")] == [False, True]
    students = [(source, seed) for source in ("single", "ensemble") for seed in "01"]
    assert [refuses("score", "student", *each) for each in students] == [False, False, False, True]


def test_a_teacher_whose_name_yaml_once_took_for_true_is_checked_too(written):
    (written / "made/on/x").write_text("?")
    assert refuses("read", "on")


def test_the_words_are_those_of_this_process_unless_they_are_given(written, monkeypatch):
    (written / "made/one/x").write_text("?")
    monkeypatch.setattr(sys, "argv", ["stages/read.py", "one"])
    with pytest.raises(PipelineError, match="made/one"):
        inputs.check("read")


def test_what_a_stage_does_not_read_is_not_compared(written):
    for out in OUTS[3:]:
        (written / out).write_text("?")
    for stage, words in EXECUTIONS[:-1]:
        inputs.check(stage, words)


def test_what_is_not_there_is_left_to_whoever_opens_it(written):
    shutil.rmtree(written / "made/on")
    inputs.check("gather", [])


@pytest.mark.parametrize("name", ["dvc.lock", "dvc.yaml"])
def test_where_dvc_knows_nothing_nothing_is_compared(written, name):
    (written / "file.txt").write_text("?")
    (written / name).unlink()
    inputs.check("read", ["one"])


def test_a_lock_that_is_being_rewritten_is_read_again(written, monkeypatch):
    """DVC empties dvc.lock before it writes it anew, while other stages may be starting."""
    lock, load = written / "dvc.lock", inputs._load
    whole = lock.read_text()
    states = [whole.replace("md5: ", "md5: 0"), whole]

    def read(path):
        if path.name == lock.name and states:
            lock.write_text(states.pop(0))
        return load(path)

    monkeypatch.setattr(inputs, "_load", read)
    inputs.check("read", ["one"])
    assert states == []


def test_a_lock_that_stays_no_yaml_is_a_sentence(written):
    (written / "dvc.lock").write_text("stages: [")
    with pytest.raises(PipelineError, match=r"dvc\.lock is not valid YAML .* `git checkout dvc\.lock`"):
        inputs.check("read", ["one"])


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A repository of git and DVC in which the stages that write have run."""
    root = tmp_path_factory.mktemp("ran")
    (root / "dvc.yaml").write_text(GRAPH)
    (root / "params.yaml").write_text("teachers: {on: {}, one: {}}\n")
    (root / "start.txt").write_text("start\n")
    for words in ("git init -q", "dvc init -q", "dvc repro make file teach"):
        done = run(*words.split(), cwd=root)
        assert done.returncode == 0, done.stdout + done.stderr
    return root


@pytest.fixture
def repository(ran, tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "REWRITTEN", 0)
    shutil.copytree(ran, tmp_path / "repository")
    monkeypatch.chdir(tmp_path / "repository")
    return tmp_path / "repository"


def objects(root):
    """The files of DVC's cache by their content."""
    return {path.read_bytes(): path for path in (root / ".dvc/cache/files").rglob("*") if path.is_file()}


def overwrite(path, content):
    path.chmod(0o644)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("out", "damaged", "stage"), [("made/on", "made/on/x", "make@on"), ("file.txt", "file.txt", "file")]
)
def test_a_copy_in_dvcs_cache_with_the_same_damage_is_removed_and_dvc_makes_the_output_again(
    repository, out, damaged, stage
):
    inputs.check("read", ["on"])
    whole, cached = (repository / damaged).read_bytes(), objects(repository)
    for path in (repository / damaged, cached[whole]):
        overwrite(path, b"?" + whole[1:])
    with pytest.raises(
        PipelineError, match=rf"{out} is not .* copy in DVC's cache had the same damage and is removed\.$"
    ):
        inputs.check("read", ["on"])
    assert set(cached) - set(objects(repository)) == {whole} and not cached[whole].exists()
    path = repository / out
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = run("dvc", "repro", stage, cwd=repository)
    assert done.returncode == 0 and f"Running stage '{stage}'" in done.stdout, done.stdout + done.stderr
    assert (repository / damaged).read_bytes() == whole and objects(repository).keys() == cached.keys()
    inputs.check("read", ["on"])


def test_a_damaged_list_of_a_folder_in_dvcs_cache_is_removed_too(repository):
    overwrite(repository / "made/on/x", b"?")
    lists = [path for path in objects(repository).values() if path.suffix == ".dir"]
    for path in lists:
        overwrite(path, b"[cut")
    with pytest.raises(PipelineError, match="copy in DVC's cache had the same damage and is removed"):
        inputs.check("read", ["on"])
    assert sum(path.exists() for path in lists) == len(lists) - 1


def test_a_whole_copy_in_dvcs_cache_stays_and_dvc_restores_it(repository):
    cached = objects(repository)
    overwrite(repository / "file.txt", b"?")
    with pytest.raises(PipelineError, match=r"run `dvc repro`\.$"):
        inputs.check("read", ["on"])
    assert objects(repository) == cached
    (repository / "file.txt").unlink()
    done = run("dvc", "repro", "file", cwd=repository)
    assert done.returncode == 0 and "Running stage" not in done.stdout, done.stdout + done.stderr
    assert (repository / "file.txt").read_bytes() == b"start\n"


@pytest.fixture
def readers(own_digits, monkeypatch):
    """Each execution of dvc.lock with the outputs of others that it reads, by DVC's own list of its deps."""
    monkeypatch.chdir(own_digits)
    monkeypatch.setattr(inputs, "REWRITTEN", 0)
    locked = YAML(typ="safe").load((own_digits / "dvc.lock").read_text())["stages"]
    outs = [out["path"] for stage in locked.values() for out in stage.get("outs", [])]
    return {
        (address.partition("@")[0], *stage["cmd"].split()[3:]): [out for out in outs if _read(out, stage["deps"])]
        for address, stage in locked.items()
    }


def _read(out, deps):
    return any(f"{out}/".startswith(f"{dep['path']}/") or f"{dep['path']}/".startswith(f"{out}/") for dep in deps)


def test_all_that_the_stages_read_from_one_another_passes(readers):
    assert len({out for outs in readers.values() for out in outs}) > 20
    for stage, *words in readers:
        inputs.check(stage, words)


def test_a_flipped_bit_anywhere_is_an_error_that_names_the_output(own_digits, readers):
    dice, kinds = random.Random(0), set()
    readers = {execution: outs for execution, outs in readers.items() if outs}
    for _ in range(TRIALS):
        stage, *words = dice.choice(list(readers))
        out = dice.choice(readers[stage, *words])
        path = dice.choice(sorted(_files(own_digits / out)))
        before, whole = path.stat(), path.read_bytes()
        _flip(path, dice)
        with pytest.raises(PipelineError, match=f"^{out} is not what its stage wrote".replace(".", r"\.")):
            inputs.check(stage, words)
        path.write_bytes(whole)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        kinds.add((out.split("/")[0], path.suffix))
    assert len(kinds) >= 5


def _files(path):
    return [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]


def _flip(path, dice):
    """Change one bit, as a disk does that forgets: the file's times stay what they were."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("damaged, words", [
    ("models/exported/ensemble", "time_models"),
    ("metrics/latency.json", "choose"),
    ("data/targets", "distill ensemble 0"),
    ("models/teachers/TEACHER", "export teacher TEACHER"),
])  # fmt: skip
def test_a_stage_ends_with_that_sentence_and_its_outputs_are_what_they_were(own_digits, damaged, words):
    teacher = next(iter(params.load(own_digits / "params.yaml").teachers))
    damaged, words = damaged.replace("TEACHER", teacher), words.replace("TEACHER", teacher)
    path = sorted(_files(own_digits / damaged))[0]
    whole, times, lock = path.read_bytes(), path.stat(), (own_digits / "dvc.lock").read_bytes()
    _flip(path, random.Random(1))
    made = {each: each.stat().st_mtime_ns for folder in ("models", "metrics", "reports", "data")
            for each in _files(own_digits / folder)}  # fmt: skip
    result = run_stage(words, own_digits)
    after = {each: each.stat().st_mtime_ns for each in made}
    path.write_bytes(whole)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert result.stderr.startswith(f"error: {damaged} is not what its stage wrote")
    assert after == made and (own_digits / "dvc.lock").read_bytes() == lock


def test_what_make_repro_says_counts_and_not_dvc_lock(written, monkeypatch):
    (written / "file.txt").write_text("made again\n")
    with pytest.raises(PipelineError, match=r"^file\.txt is not what its stage wrote"):
        inputs.check("read", ["one"])
    monkeypatch.setenv(inputs.EXPECTED, json.dumps({"file.txt": dvc_hash(written / "file.txt")}))
    inputs.check("read", ["one"])
    (written / "file.txt").write_text("damaged since\n")
    with pytest.raises(PipelineError, match=r"^file\.txt is not what its stage wrote"):
        inputs.check("read", ["one"])
