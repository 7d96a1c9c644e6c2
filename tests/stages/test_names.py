"""Names from params.yaml become stages, files, command-line words and rows of tables: what they may be."""

import json
import shlex

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from pipeline import params
from pipeline.project import paths
from pipeline.project.errors import PipelineError
from tests.conftest import CHECKOUT, copy_checkout, run

PARAMS = (CHECKOUT / "params.yaml").read_text()
ODD = [
    *("../x", "..", ".", "/etc/passwd", "a/b", "a\\b", "a b", " a", "a\n", "", "\0", "\ud800", "a" * 200),
    *("a;b", "$(touch x)", "`touch x`", "a&b", "a|b", "${seed}", "a@b", "a[0]", "a{b}", "*", "?", "a'b", 'a"b', "#a"),
    *("-a", "--help", ".a", "~", "é", "名", "a:b", "a%b"),
]


def loads(tmp_path, old: str, new: str) -> params.Params:
    assert PARAMS.count(old) == 1
    (tmp_path / "params.yaml").write_text(PARAMS.replace(old, new), encoding="utf-8")
    return params.load(tmp_path / "params.yaml")


def quoted(name: str) -> str:
    return json.dumps(name)


@pytest.mark.parametrize("name", ODD, ids=ascii)
@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("  resnet:", "  {}:", "`teachers."),
        ("[ensemble]", "[{}]", "`distill.sources"),
        ("deploy:\n", "deploy:\n  name: {}\n", "`deploy.name`"),
    ],
    ids=["teacher", "source", "registered model"],
)
def test_an_odd_name_is_refused_by_its_key(tmp_path, name, old, new, key):
    with pytest.raises(PipelineError) as refused:
        loads(tmp_path, old, new.format(quoted(name)))
    assert key in str(refused.value) and len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["from_a", "from_resnet", "weighted", "simple", "baseline", "deployed", "resnet_int8"])
def test_a_teacher_has_the_name_of_no_other_row_or_file(tmp_path, name):
    with pytest.raises(PipelineError, match=f"`teachers.{name}` has the name of"):
        loads(tmp_path, "  byobnet:", f"  {name}:")


@pytest.mark.parametrize("name", ["from_nobody", "from_../x", "from_resnet-٣", "from_resnet;x", "from_"])
def test_a_source_names_a_teacher(tmp_path, name):
    with pytest.raises(PipelineError, match=r"`distill\.sources"):
        loads(tmp_path, "[ensemble]", f"[{quoted(name)}]")


@pytest.mark.parametrize("name", ["teams/vision", "x y", "größe", "名前", "a'b; drop table", "-x", "../x"])
def test_an_experiment_may_have_any_name_that_can_be_printed(tmp_path, name):
    assert loads(tmp_path, "tracking: {}", f"tracking: {{experiment: {quoted(name)}}}").tracking.experiment == name


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\0", "\ud800", "x" * 201], ids=ascii)
def test_an_experiment_has_a_printable_name(tmp_path, name):
    with pytest.raises(PipelineError, match=r"`tracking\.experiment`"):
        loads(tmp_path, "tracking: {}", f"tracking: {{experiment: {quoted(name)}}}")


IMAGES = [
    *("my images", "../elsewhere", "/srv/images", "data/raw/mine", "data/images/", "./data/images", "C:x", "x~", "é"),
    *("名前", "a;b", "$(touch x)", "${seed}", "\\${seed}", "-x", "@x", "[a]*", "#x", "{x}", "a'b", 'a"b', "x" * 200),
]


@pytest.mark.parametrize("key", ["path", "unlabelled"])
@pytest.mark.parametrize("folder", IMAGES, ids=ascii)
def test_images_may_be_in_any_folder(tmp_path, key, folder):
    old = {"path": "path: data/none/images ", "unlabelled": "unlabelled: data/none/unlabelled "}[key]
    assert getattr(loads(tmp_path, old, f"{key}: {quoted(folder)} ").data, key) == folder


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        *((name, "but stages write into") for name in (".", "/", "data", "models", "models/x")),
        *((name, "but stages write into") for name in ("x/../runs", "reports/curves")),
        *((name, "an address") for name in ("s3://a/b", "https://a/b", "remote://a/b", "file:///a")),
        *((name, "a name that DVC keeps") for name in (".dvc", "x.dvc", "dvc.yaml", "dvc.lock")),
        *((name, "is blank or holds characters") for name in (" ", "a\nb", "a\0b")),
        ("\ud800", "a valid string"),
        ("x" * 300, "a name of more than 255 bytes"),
        ("é" * 150, "a name of more than 255 bytes"),
    ],
    ids=ascii,
)
def test_a_folder_that_dvc_or_a_stage_would_take_for_its_own_is_refused(tmp_path, folder, words):
    with pytest.raises(PipelineError) as refused:
        loads(tmp_path, "path: data/none/images ", f"path: {quoted(folder)} ")
    assert words in str(refused.value) and "`data.path`" in str(refused.value)


def test_dvc_takes_a_folder_of_any_name_and_no_shell_reads_it(tmp_path, monkeypatch):
    root = copy_checkout(tmp_path)
    odd = "a b; touch x1; $(touch x2) `touch x3` ${seed} [a]* @x 'q' é #"
    (root / odd).mkdir()
    (root / "params.yaml").write_text(PARAMS.replace("path: data/none/images ", f"path: {quoted(odd)} "))
    result = run("dvc", "repro", "--dry", "prepare", cwd=root)
    assert result.returncode == 0, result.stdout + result.stderr
    monkeypatch.chdir(root)
    with Repo() as repo:
        assert odd in [dep.def_path for dep in repo.stage.load_one(name="prepare").deps]
    assert not list(root.glob("x[123]"))


STAGES = YAML(typ="safe").load((CHECKOUT / "dvc.yaml").read_text())["stages"]


def test_every_out_is_below_a_folder_that_no_images_may_be_in():
    listed = [out for stage in STAGES.values() for kind in ("outs", "metrics", "plots") for out in outs(stage, kind)]
    assert listed and all(f"{out}/".startswith(tuple(f"{folder}/" for folder in paths.WRITTEN)) for out in listed)


def outs(stage: dict, kind: str) -> list[str]:
    declared = stage.get("do", stage).get(kind, [])
    return [next(iter(out)) if isinstance(out, dict) else out for out in declared]


def test_the_words_that_commands_take_from_params_are_names_of_teachers_sources_and_seeds_alone():
    commands = [stage.get("do", stage)["cmd"] for stage in STAGES.values()]
    words = {word for command in commands for word in shlex.split(command) if "${" in word}
    assert words == {"${key}", "${item}", "${item.seed}", "${item.source}"}
    items = {stage["foreach"] for stage in STAGES.values() if "foreach" in stage}
    items |= {values for stage in STAGES.values() for values in stage.get("matrix", {}).values()}
    assert items == {"${teachers}", "${distill.sources}", "${student_seeds}"}
