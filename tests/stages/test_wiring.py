import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline import params
from pipeline.project.errors import PipelineError
from stages import wiring

CHECKOUT = Path(__file__).parents[1]
BASE = """\
# heading
seed: 0                     # of everything
data:
  source: fashion_mnist     # or another
  image_size: 28            # pixels
teachers:
  old: {model: a, kwargs: {x: 1}}
student:
  kwargs: {channels: [8], depth: 3}
  lr: 0.1                   # rate
benchmark:
  calls: {1: 200, 7: 3}
  warmup: 10                # before
"""
PROFILE = """\
data: {source: digits}
teachers:
  new: {model: b}
student: {kwargs: {channels: [4]}}
benchmark: {calls: {1: 20}}
"""


def loaded(text):
    return YAML(typ="safe").load(text)


@pytest.fixture
def merged(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "profile.yaml").write_text(PROFILE)
    return wiring._dump(wiring.merge(wiring._read(tmp_path / "base.yaml"), wiring._read(tmp_path / "profile.yaml")))


def test_merge_keeps_every_comment(merged):
    for comment in ("# heading", "# of everything", "# or another", "# pixels", "# rate", "# before"):
        assert merged.count(comment) == 1


def test_merge_takes_the_profiles_values_and_keeps_the_others(merged):
    found = loaded(merged)
    assert found["data"] == {"source": "digits", "image_size": 28}
    assert (found["seed"], found["student"]["lr"], found["benchmark"]["warmup"]) == (0, 0.1, 10)


def test_merge_replaces_teachers_kwargs_and_calls_whole(merged):
    found = loaded(merged)
    assert found["teachers"] == {"new": {"model": "b"}}
    assert found["student"]["kwargs"] == {"channels": [4]}
    assert found["benchmark"]["calls"] == {1: 20}


@pytest.mark.parametrize("profile", sorted((CHECKOUT / "profiles").glob("*.yaml")), ids=lambda path: path.name)
def test_every_profile_gives_valid_params_with_their_comments(profile, tmp_path):
    base = CHECKOUT / "params.yaml"
    text = wiring._dump(wiring.merge(wiring._read(base), wiring._read(profile)))
    (tmp_path / "params.yaml").write_text(text)
    params.load(tmp_path / "params.yaml")
    assert "# softens teacher and student" in text


def test_null_stays_null(tmp_path):
    (tmp_path / "x.yaml").write_text("a: null   # none\nb: [null]\n")
    assert loaded(wiring._dump(wiring._read(tmp_path / "x.yaml"))) == {"a": None, "b": [None]}
    assert "a: null" in wiring._dump(wiring._read(tmp_path / "x.yaml"))


FILES = {
    "pipeline/top.py": "import json\nfrom pipeline import left\nfrom pipeline.right import value\n",
    "pipeline/left.py": "import pipeline.base\n",
    "pipeline/right.py": "from pipeline.base import value\n",
    "pipeline/base.py": "import numpy\nvalue = 1\n",
    "pipeline/unused.py": "from pipeline import top\n",
    "stages/one.py": "from pipeline import top\nfrom stages import helper\n",
    "stages/helper.py": "def late():\n    from pipeline import lazy\n    return lazy\n\nlate()\n",
    "pipeline/lazy.py": "",
    "stages/two.py": "import stages.one as one, pipeline.base\n",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name, text in {**FILES, "pipeline/__init__.py": "", "stages/__init__.py": ""}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("module", ["stages/one.py", "stages/two.py", "pipeline/right.py", "pipeline/unused.py"])
def test_code_is_what_is_imported_at_runtime(project, module):
    name = module.removesuffix(".py").replace("/", ".")
    script = (f"import sys, {name}\nprint(*sorted(name.replace('.', '/') + '.py' for name in sys.modules "
              "if name.startswith(('pipeline.', 'stages.'))))")  # fmt: skip
    result = subprocess.run([sys.executable, "-c", script], cwd=project, capture_output=True, text=True, check=True)
    assert wiring.code(module) == result.stdout.split()


def test_code_follows_circles_once(project):
    (project / "pipeline/base.py").write_text("from pipeline import top\n")
    assert wiring.code("pipeline/base.py") == [f"pipeline/{name}.py" for name in ("base", "left", "right", "top")]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of what wiring reads and writes."""
    for name in ("pipeline", "stages", "profiles"):
        shutil.copytree(CHECKOUT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(CHECKOUT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stages(checkout):
    found = loaded((checkout / "dvc.yaml").read_text())["stages"]
    return {name: stage | stage.get("do", {}) for name, stage in found.items()}


def test_wiring_twice_changes_nothing_more(checkout):
    wiring.main()
    first = (checkout / "dvc.yaml").read_bytes()
    wiring.main()
    assert (checkout / "dvc.yaml").read_bytes() == first


def test_check_writes_nothing_and_refuses_what_wiring_would_change(checkout):
    wiring.main()
    wiring.main("--check")
    path = checkout / "dvc.yaml"
    path.write_text(path.read_text().replace("      - pipeline/errors.py\n", "", 1))
    before = path.read_bytes()
    with pytest.raises(PipelineError, match="`make wire`"):
        wiring.main("--check")
    assert path.read_bytes() == before


def test_a_new_teacher_is_gathered_wherever_teachers_are(checkout):
    (checkout / "more.yaml").write_text(
        "teachers:\n"
        "  one: {model: a, epochs: 1, batch_size: 2, lr: 1}\n"
        "  two: {model: b, epochs: 1, batch_size: 2, lr: 1}\n"
    )
    wiring.main("--profile", "more.yaml")
    found = stages(checkout)
    for teacher in ("one", "two"):
        assert {f"data/logits/{teacher}/train.npy", f"models/{teacher}.safetensors"} <= set(
            found["fit_ensemble"]["deps"]
        )
        assert {f"data/logits/{teacher}/test.npy", f"models/{teacher}.onnx"} <= set(found["benchmark"]["deps"])
        assert f"runs/train_teacher-{teacher}.json" in found["publish"]["deps"]
        assert teacher in found["export"]["matrix"]["model"]
        assert found["train_teacher"]["foreach"][teacher] == {"teacher": teacher}
        assert teacher in found["cache_logits"]["matrix"]["name"]


def test_a_teacher_with_seeds_is_a_stage_for_each(checkout):
    one = "{model: a, epochs: 1, batch_size: 2, lr: 1, seeds: [0, 4]}"
    (checkout / "more.yaml").write_text(f"teachers:\n  one: {one}\n")
    wiring.main("--profile", "more.yaml")
    found = stages(checkout)
    assert found["train_teacher"]["foreach"] == {"one-0": {"teacher": "one"}, "one-4": {"teacher": "one"}}
    assert "models/one-4.onnx" in found["time_members"]["deps"]


def test_cross_fitting_trains_a_teacher_a_fold_and_gathers_them(checkout):
    text = (checkout / "params.yaml").read_text()
    (checkout / "params.yaml").write_text(text.replace("cross_fit: 1 ", "cross_fit: 2 "))
    wiring.main()
    found = stages(checkout)
    assert found["train_teacher"]["foreach"]["byobnet-fold1of2"] == {"teacher": "byobnet"}
    assert "models/${item.name}-fold0of2.safetensors" in found["cache_logits"]["deps"]
    assert "models/byobnet-fold1of2.safetensors" in found["fit_ensemble"]["deps"]
    assert "runs/train_teacher-byobnet-fold0of2.json" in found["publish"]["deps"]
    assert "byobnet-fold0of2" not in found["export"]["matrix"]["model"]
    (checkout / "params.yaml").write_text(text)
    wiring.main()
    assert not any(
        "fold" in dep for stage in stages(checkout).values() for dep in stage["deps"] if "folds.py" not in dep
    )


def test_a_backbone_on_this_machine_is_a_dep_of_what_starts_from_it_and_of_nothing_else(checkout):
    teacher = "epochs: 1, batch_size: 2, lr: 1"
    before = (checkout / "dvc.yaml").read_text()
    (checkout / "more.yaml").write_text(
        f"teachers:\n  one: {{backbone: 'local-dir:data/backbones/one', {teacher}}}\n"
        f"  two: {{backbone: resnet18.a1_in1k, {teacher}}}\n"
        "student: {model: test_resnet, backbone: 'file:../student.safetensors'}\n"
    )
    params_before = (checkout / "params.yaml").read_text()
    wiring.main("--profile", "more.yaml")
    found = stages(checkout)
    assert "${item.backbone}" in found["train_teacher"]["deps"]
    assert found["train_teacher"]["foreach"]["one"]["backbone"] == "data/backbones/one"
    assert found["train_teacher"]["foreach"]["two"]["backbone"] == "data/prepared/dataset.json"
    for name in ("train_baseline", "distill"):
        assert found[name]["deps"][-1] == "../student.safetensors"
    assert {"data/backbones/one", "../student.safetensors"} <= set(found["time_torch"]["deps"])
    wired = (checkout / "dvc.yaml").read_bytes()
    wiring.main()
    assert (checkout / "dvc.yaml").read_bytes() == wired
    (checkout / "params.yaml").write_text(params_before)
    wiring.main()
    assert (checkout / "dvc.yaml").read_text() == before


def test_every_source_has_its_targets(checkout):
    text = (checkout / "params.yaml").read_text()
    (checkout / "params.yaml").write_text(text.replace("sources: [single, ensemble]", "sources: [from_byobnet]"))
    wiring.main()
    outs = stages(checkout)["fit_ensemble"]["outs"]
    assert [out for out in outs if out.startswith("data/targets")] == ["data/targets/from_byobnet.npy"]
    assert "models/from_byobnet-0.onnx" in stages(checkout)["benchmark"]["deps"]


def test_a_teacher_that_is_gone_is_gathered_nowhere(checkout):
    old = set(loaded((checkout / "params.yaml").read_text())["teachers"])
    (checkout / "other.yaml").write_text("teachers:\n  zzz: {model: a, epochs: 1, batch_size: 2, lr: 1}\n")
    wiring.main("--profile", "other.yaml")
    for stage in stages(checkout).values():
        deps = [Path(dep) for dep in stage["deps"]]
        gathered = {dep.stem for dep in deps if dep.parts[0] in ("models", "metrics")} | {
            dep.parent.name for dep in deps
        }
        assert not gathered & old


def test_deps_that_wiring_does_not_write_stay(checkout):
    before = {name: [dep for dep in stage["deps"] if "prepared" in dep] for name, stage in stages(checkout).items()}
    wiring.main("--profile", "profiles/smoke.yaml")
    after = {name: [dep for dep in stage["deps"] if "prepared" in dep] for name, stage in stages(checkout).items()}
    assert after == before and before["train_teacher"]


def test_no_dep_is_listed_twice(checkout):
    wiring.main("--profile", "profiles/smoke.yaml")
    for stage in stages(checkout).values():
        assert len(set(stage["deps"])) == len(stage["deps"])


@pytest.mark.parametrize("profile", sorted(path.name for path in (CHECKOUT / "profiles").glob("*.yaml")))
def test_every_profile_fits_params(checkout, profile):
    wiring.main("--profile", f"profiles/{profile}")
    wiring.main("--check")


@pytest.mark.parametrize("path", sorted((CHECKOUT / "reports").glob("*/*.yaml")), ids=lambda path: path.name)
def test_params_that_gave_a_table_are_still_valid(path):
    params.load(path)


def test_an_invalid_profile_leaves_everything_as_it_was(checkout):
    before = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    (checkout / "bad.yaml").write_text("distill: {alpha: 2}\n")
    with pytest.raises(PipelineError, match=r"`distill\.alpha`") as refused:
        wiring.main("--profile", "bad.yaml")
    assert ".tmp" not in str(refused.value)
    (checkout / "bad.yaml").unlink()
    assert {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("text", ["distill: {alpha: 2\n", "- 1\n", "", "seed: 1\nseed: 2\n"])
def test_a_profile_that_is_no_block_of_settings_is_refused(checkout, text):
    (checkout / "bad.yaml").write_text(text)
    with pytest.raises(PipelineError, match=r"bad\.yaml"):
        wiring.main("--profile", "bad.yaml")


def test_a_missing_profile_is_refused_by_name(checkout):
    with pytest.raises(PipelineError, match=r"nowhere\.yaml is no file"):
        wiring.main("--profile", "nowhere.yaml")
