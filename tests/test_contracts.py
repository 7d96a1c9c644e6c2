"""What dvc.yaml declares is what the code uses."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline import params
from stages import wiring
from tests.conftest import CHECKOUT

DOCUMENT = YAML(typ="safe").load((CHECKOUT / "dvc.yaml").read_text())["stages"]
STAGES = {name: stage.get("do", stage) for name, stage in DOCUMENT.items()}

LAYERS = [
    *("deadline", "errors", "paths", "files", "decoding", "randomness", "machine", "folds"),
    *("params", "compute", "ranks"),
    *("data", "schedule", "usage", "checkpoint", "graph", "inputs", "dvc_files"),
    *("listing", "fashion_mnist", "labelled_files", "torchvision_sets", "sources", "splits"),
    *("views", "prefetch", "topk", "logits", "objectives", "metrics"),
    *("backbones", "models", "training", "students", "caching"),
    *("targets", "statistics", "sweeps", "ensemble", "fitting", "diversity", "subsets", "selection"),
    *("tracking", "latency", "eager", "predict", "quantisation", "fusion", "export", "comparison", "lineup", "costs"),
    *("decision", "registry", "report", "mistakes", "diagram", "page"),
    *("versions", "summary", "backfill", "review"),
]

READS = {  # what a method of Params reads
    "teacher": {"teachers.${item.teacher}"},
    "members": {"teachers"},
    "augmentation": {"views.shift", "views.flip", "views.erase"},
    "class_weights": {"data.class_weights"},
    "models": {"teachers", "student_seeds", "distill.sources"},
    "control": {"student", "baseline"},
    "sources": {"distill.sources"},
    "with_fold_teachers": {"distill.cross_fit"},
    "fold_teachers": {"distill.cross_fit"},
    "trained_teachers": {"teachers", "distill.cross_fit"},
    "student_arms": {"student_seeds", "distill.sources"},
    "model_dump": {"params.yaml"},
    "tracking": set(),  # where runs are logged changes no output
}


def test_dvc_yaml_is_wired():
    document = YAML(typ="safe").load((CHECKOUT / "dvc.yaml").read_text())
    assert wiring.wire(document, params.load(CHECKOUT / "params.yaml"))["stages"] == DOCUMENT


@pytest.fixture(scope="module")
def imported() -> dict[str, list[str]]:
    """The first-party modules that each stage loads, by loading it."""
    script = f"""
import importlib, json, sys
found = {{}}
for stage in {list(STAGES)!r}:
    for name in [name for name in sys.modules if name.split(".")[0] in ("pipeline", "stages")]:
        del sys.modules[name]
    importlib.import_module("stages." + stage)
    found[stage] = sorted(name.replace(".", "/") + ".py" for name in sys.modules
                          if name.startswith(("pipeline.", "stages.")))
print(json.dumps(found))
"""
    result = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_that_it_loads(stage, imported):
    assert [dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")] == imported[stage]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_params_that_it_reads(stage):
    tree = ast.parse((CHECKOUT / f"stages/{stage}.py").read_text())
    read = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "settings":
            read |= READS.get(node.attr, {node.attr})
    declared = {key if isinstance(key, str) else "params.yaml" for key in STAGES[stage]["params"]}
    if "params.yaml" in read:
        read = {"params.yaml"}
    assert declared == {key for key in read if key.split(".")[0] not in read or "." not in key}


def test_packages_hold_no_code_of_their_own():
    for package in ("pipeline", "stages"):
        body = ast.parse((CHECKOUT / package / "__init__.py").read_text()).body
        assert len(body) == 1 and isinstance(body[0], ast.Expr)


def test_imports_in_the_library_go_one_way():
    assert sorted(LAYERS) == sorted(path.stem for path in (CHECKOUT / "pipeline").glob("[!_]*.py"))
    for level, module in enumerate(LAYERS):
        above = [path for path in wiring.code(f"pipeline/{module}.py") if Path(path).stem in LAYERS[level + 1 :]]
        assert not above, f"pipeline/{module}.py imports {above}, which is above it"


def test_only_tracking_and_registry_import_mlflow():
    for path in (CHECKOUT / "pipeline").glob("*.py"):
        assert ("mlflow" in _imported_roots(path)) == (path.stem in ("tracking", "registry")), path.name


@pytest.mark.parametrize("module", ["latency", "ensemble", "selection", "comparison", "report", "tracking"])
def test_the_benchmark_needs_neither_torch_nor_timm(module):
    roots = set().union(*(_imported_roots(CHECKOUT / path) for path in wiring.code(f"pipeline/{module}.py")))
    assert not roots & {"torch", "timm"}


def _imported_roots(path: Path) -> set[str]:
    roots = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            roots.add(node.module.split(".")[0])
    return roots
