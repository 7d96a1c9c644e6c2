"""What dvc.yaml declares is what the code uses, and dvc.lock is that of the tree beside it."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from dvc.dependency import ParamsDependency
from dvc.repo import Repo
from ruamel.yaml import YAML

from tests.conftest import CHECKOUT

# From the ground upwards: a room imports only what stands before it.
ROOMS = [
    *("project", "params", "tracking", "scoring", "images", "training", "logits", "ensembles", "distillation"),
    *("deployment", "reporting"),
]
UNLISTED = {  # what no byte of a result depends on
    *("pipeline/params.py", "pipeline/tracking"),
    *("stages/starting.py", "stages/gathering.py", "stages/dvc_files.py"),
}
STAGES = {name: stage.get("do", stage)
          for name, stage in YAML(typ="safe").load((CHECKOUT / "dvc.yaml").read_text())["stages"].items()}  # fmt: skip
DEFAULTS = YAML(typ="safe").load((CHECKOUT / "pipeline/defaults.yaml").read_text())
READS = {  # the sections that a method of Params reads
    "teacher": {"teachers"},
    "fold_teachers": {"cross_fit"},
    "baseline_student": {"student", "baseline"},
    "student_arms": {"student_seeds", "distill"},
    "models": {"teachers", "student_seeds", "distill"},
    "model_dump": {"params.yaml"},
    "tracking": set(),  # where runs are logged changes no output
}
NAMES_ONLY = {"teachers", "distill"}  # sections of which most stages read the names of teachers and sources alone


def script(stage: str) -> str:
    """The module that a stage runs, as a path."""
    return STAGES[stage]["cmd"].split()[2].replace(".", "/") + ".py"


@cache
def imports(path: str) -> frozenset[str]:
    """The project's own modules that a module imports, as paths, packages among them."""
    names = set()
    for node in ast.walk(ast.parse((CHECKOUT / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    paths = {name.replace(".", "/") for name in names if name.split(".")[0] in ("pipeline", "stages")}
    return frozenset(f"{path}.py" for path in paths if (CHECKOUT / f"{path}.py").is_file())


def reached(path: str) -> set[str]:
    """What a module loads, followed through, itself included."""
    modules, waiting = set(), [path]
    while waiting:
        if (module := waiting.pop()) not in modules:
            modules.add(module)
            waiting += imports(module)
    return modules


def room(path: str) -> str:
    """The dep that stands for a module in dvc.yaml."""
    parts = Path(path).parts
    return "/".join(parts[:2]) if parts[0] == "pipeline" else path


def modules(folder: str = "pipeline") -> list[str]:
    return sorted(path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / folder).rglob("*.py"))


def test_there_are_at_most_eleven_rooms_and_all_are_known():
    inside = {Path(path).parts[1].removesuffix(".py") for path in modules()} - {"__init__"}
    assert inside == set(ROOMS) and len(ROOMS) <= 11


@pytest.mark.parametrize("module", [path for path in modules() if not path.endswith("__init__.py")])
def test_imports_go_down(module):
    own = ROOMS.index(Path(module).parts[1].removesuffix(".py"))
    above = {path for path in imports(module) if ROOMS.index(Path(path).parts[1].removesuffix(".py")) > own}
    assert not above, f"{module} imports {above}, which is above it"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_rooms_that_it_loads(stage):
    listed = {dep for dep in STAGES[stage]["deps"] if dep.startswith(("pipeline", "stages"))}
    assert listed - {"pipeline/tracking"} == {room(path) for path in reached(script(stage))} - UNLISTED


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_params_that_it_reads(stage):
    read = set().union(*(_sections(path) for path in reached(script(stage)) if room(path) not in UNLISTED))
    if stage == "export_teacher":  # whose script also serves stages of students
        read -= {"student_seeds"}
    keys = {key for key in STAGES[stage]["params"] if isinstance(key, str)}
    files = {name: listed for key in STAGES[stage]["params"] if isinstance(key, dict) for name, listed in key.items()}
    if "params.yaml" in read:
        assert keys == set() and files == {"params.yaml": None, "pipeline/defaults.yaml": None}
        return
    assert {key.split(".")[0] for key in keys} == read
    defaults = {"teacher" if key == "teachers" else key for key in read} & set(DEFAULTS)
    names = {"teacher" if key == "teachers" else key for key in NAMES_ONLY}
    assert defaults - names <= set(files["pipeline/defaults.yaml"] if files else []) <= defaults


def _sections(path: str) -> set[str]:
    """The sections of params that a module reads as `settings.SECTION`, where `settings` are all of them."""
    tree, read = ast.parse((CHECKOUT / path).read_text()), set()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and _takes_params(function):
            for node in ast.walk(function):
                if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("settings", "room.settings"):
                    read |= READS.get(node.attr, {node.attr})
                elif isinstance(node, ast.GeneratorExp | ast.DictComp) and "getattr(settings" in ast.unparse(node):
                    read |= set(ast.literal_eval(node.generators[0].iter))
    return read


def _takes_params(function: ast.FunctionDef) -> bool:
    text = ast.unparse(function)
    return "settings: Params" in text or "start_stage(" in text or "room: Room" in text


@pytest.mark.parametrize(
    ("edited", "stages"),
    [
        ("reporting", {"score_students", "benchmark", "report", "publish"}),
        ("distillation", {"distill"}),
        ("ensembles", {"time_members", "fit_ensemble", "export_ensemble", "time_models", "choose", "benchmark"}),
        ("tracking", {"publish"}),
        ("images", {"prepare", "time_models"}),
    ],
)
def test_an_edit_of_a_room_reruns_the_stages_that_list_it(edited, stages):
    assert {name for name, stage in STAGES.items() if f"pipeline/{edited}" in stage["deps"]} == stages


def test_packages_hold_no_code_of_their_own():
    for path in [*modules("pipeline"), *modules("stages")]:
        if path.endswith("__init__.py") and path != "stages/__init__.py":  # which comes before a stage's libraries
            body = ast.parse((CHECKOUT / path).read_text()).body
            assert len(body) == 1 and isinstance(body[0], ast.Expr), path


def test_only_tracking_imports_mlflow():
    for path in modules():
        names = {name.split(".")[0] for node in ast.walk(ast.parse((CHECKOUT / path).read_text()))
                 for name in _imported(node)}  # fmt: skip
        assert "mlflow" not in names or path.startswith("pipeline/tracking/"), path


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


@pytest.mark.parametrize("stage", ["choose", "score_students", "time_members", "report", "publish"])
def test_a_stage_that_reads_numbers_loads_neither_torch_nor_timm(stage):
    code = f"import sys, {script(stage)[:-3].replace('/', '.')}; print(sorted({{'torch', 'timm'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_no_function_is_longer_than_a_screen_or_takes_too_much():
    for path in [*modules("pipeline"), *modules("stages")]:
        for node in ast.walk(ast.parse((CHECKOUT / path).read_text())):
            if isinstance(node, ast.FunctionDef):
                names = [each.arg for each in (*node.args.args, *node.args.kwonlyargs)]
                count = len(names) - (names[:1] in (["self"], ["cls"]))
                assert node.end_lineno - node.lineno < 65 and count <= 8, f"{path}: {node.name}"


def test_the_graph_is_short_and_its_lock_too():
    assert len((CHECKOUT / "dvc.yaml").read_text().splitlines()) <= 320
    assert (CHECKOUT / "dvc.lock").stat().st_size <= 130_000


def test_dvc_lock_is_that_of_the_tree(monkeypatch):
    """Commands, code, params, and the outs that git keeps. Whatever changed, `make repro` makes it right."""
    monkeypatch.chdir(CHECKOUT)
    with Repo() as repo:
        stages = {stage.addressing: stage for stage in repo.index.stages}
        locked = YAML(typ="safe").load((CHECKOUT / "dvc.lock").read_text())["stages"]
        assert set(locked) == set(stages), "dvc.lock is of other params; `make repro` renews it"
        stale = {name: stage.cmd for name, stage in stages.items() if stage.cmd != locked[name]["cmd"]}
        for name, stage in stages.items():
            code = [dep for dep in stage.deps if isinstance(dep, ParamsDependency) or _is_code(dep.def_path)]
            kept = [out for out in stage.outs if not out.use_cache]
            changed = {key: value for each in (*code, *kept) for key, value in each.workspace_status().items()}
            stale |= {name: changed} if changed else {}
    assert not stale, "dvc.lock is of other code or params; `make repro` renews it"


def _is_code(path: str) -> bool:
    return path.split("/")[0] in ("pipeline", "stages")


def test_a_clone_that_turns_line_ends_has_the_same_bytes(tmp_path):
    words = ["git", "-c", "core.autocrlf=true", "clone", "-q", "--no-hardlinks", str(CHECKOUT), str(tmp_path / "clone")]
    subprocess.run(words, check=True, capture_output=True)
    committed = subprocess.run(["git", "show", "HEAD:params.yaml"], cwd=CHECKOUT, capture_output=True).stdout
    assert (tmp_path / "clone/params.yaml").read_bytes() == committed
