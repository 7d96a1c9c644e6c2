"""A byte that flips in anything that a stage reads from another is a sentence, and never a number."""

import os
import random
import sys

import pytest
from ruamel.yaml import YAML

from pipeline import params
from pipeline.project import inputs
from pipeline.project.errors import PipelineError
from pipeline.reporting import graph
from tests.conftest import run

TRIALS = 200


@pytest.fixture
def readers(digits, monkeypatch):
    """The executions that read each output of dvc.lock: {path: [(stage, item)]}, the project being the folder."""
    monkeypatch.chdir(digits)
    stages = YAML(typ="safe").load((digits / "dvc.yaml").read_text())["stages"]
    locked = YAML(typ="safe").load((digits / "dvc.lock").read_text())["stages"]
    settings, found = params.load().model_dump(), {}
    for address in locked:
        for path in graph.reads(stages, settings, address):
            found.setdefault(path, []).append(tuple(address.partition("@")[::2]))
    outs = {out["path"] for stage in locked.values() for out in stage.get("outs", [])}
    return {path: found[path] for path in sorted(outs & set(found))}


def flip(path, dice):
    """Change one bit, as a disk does that forgets: the file's times stay what they were."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_what_other_stages_wrote_passes(readers, monkeypatch):
    monkeypatch.setattr(inputs, "_load", _once(inputs._load))
    settings = params.load().model_dump()
    assert len(readers) > 60
    for stage, item in {execution for stages in readers.values() for execution in stages}:
        inputs.check(stage, item, settings)


def test_a_flipped_bit_anywhere_is_an_error_that_names_the_file(digits, readers, monkeypatch):
    monkeypatch.setattr(inputs, "REWRITTEN", 0)
    monkeypatch.setattr(inputs, "_load", _once(inputs._load))
    dice, settings, kinds = random.Random(0), params.load().model_dump(), set()
    for trial in range(TRIALS):
        path = digits / list(readers)[trial * 7919 % len(readers)]
        name, whole, times = str(path.relative_to(digits)), path.read_bytes(), path.stat()
        flip(path, dice)
        with pytest.raises(PipelineError, match=name.replace(".", r"\.")):
            inputs.check(*dice.choice(readers[name]), settings)
        path.write_bytes(whole)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        kinds.add((path.parent.name, path.suffix))
    assert len(kinds) >= 12


@pytest.mark.parametrize("path, stage", [
    ("models/ensemble-0.onnx", ["time_models"]),
    ("metrics/latency.json", ["choose"]),
    ("data/targets/ensemble.npy", ["distill", "ensemble", "0"]),
    ("models/TEACHER.safetensors", ["export", "TEACHER"]),
])  # fmt: skip
def test_a_stage_ends_with_that_sentence_and_its_outputs_are_what_they_were(digits, path, stage):
    teacher = next(iter(params.load(digits / "params.yaml").members()))
    path, stage = path.replace("TEACHER", teacher), [word.replace("TEACHER", teacher) for word in stage]
    whole, times, lock = (digits / path).read_bytes(), (digits / path).stat(), (digits / "dvc.lock").read_bytes()
    flip(digits / path, random.Random(1))
    made = {each: each.stat().st_mtime_ns for folder in ("models", "metrics", "reports", "data")
            for each in (digits / folder).rglob("*") if each.is_file()}  # fmt: skip
    result = run(sys.executable, "-m", f"stages.{stage[0]}", *stage[1:], cwd=digits)
    after = {each: each.stat().st_mtime_ns for each in made}
    (digits / path).write_bytes(whole)
    os.utime(digits / path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert result.stderr.startswith(f"error: {path} is not what its stage wrote")
    assert after == made and (digits / "dvc.lock").read_bytes() == lock


def test_a_lock_that_is_being_rewritten_is_read_again(project, monkeypatch):
    """DVC empties dvc.lock before it writes it anew, while other stages may be starting."""
    monkeypatch.setattr(inputs, "REWRITTEN", 0)
    (project / "dvc.yaml").write_text("stages: {b: {cmd: x, deps: [a.txt]}}")
    (project / "a.txt").write_text("a")
    whole = "stages:\n  a:\n    outs:\n    - path: a.txt\n      md5: 0cc175b9c0f1b6a831c399e269772661\n"
    contents = [whole[:-9], whole]
    monkeypatch.setattr(inputs, "_load", _rewritten(inputs._load, project / "dvc.lock", contents))
    (project / "dvc.lock").write_text(contents[0])
    inputs.check("b", "", {})


def _once(load):
    found = {}
    return lambda path: found.setdefault(path, load(path)) if path not in found else found[path]


def _rewritten(load, lock, contents):
    def read(path):
        if path.name == lock.name and contents:
            lock.write_text(contents.pop(0))
        return load(path)

    return read
