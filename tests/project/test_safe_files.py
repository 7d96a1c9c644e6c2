"""Nothing that the project loads can run code: what ruff's S rules do not know of."""

import ast
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

SOURCES = [
    *(path for folder in ("pipeline", "stages", "benchmarks", "docs") for path in (CHECKOUT / folder).rglob("*.py")),
    CHECKOUT / ".ci/repro",
]
RUN_CODE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"}
FORBIDDEN = ("torch.hub.load", "pd.read_pickle", "eval", "exec", "compile", "os.system", "os.popen")


def faults(tree: ast.AST) -> list[str]:
    """What in a file's code loads what may run code, or hands text to a shell, each with its line."""
    refusals = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            refusals += [f"line {node.lineno}: {name}" for name in names if name.split(".")[0] in RUN_CODE]
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {option.arg: ast.unparse(option.value) for option in node.keywords}
            refused = (
                name in FORBIDDEN
                or (name in ("np.load", "np.save") and given.get("allow_pickle") != "False")
                or (name == "torch.load" and given.get("weights_only") != "True")
                or (name.startswith("yaml.") and "load" in name and given.get("Loader") != "yaml.CSafeLoader")
                or (name == "YAML" and given.get("typ", "'rt'") not in ("'rt'", "'safe'"))
                or given.get("shell", "False") != "False"
            )
            if refused:
                refusals.append(f"line {node.lineno}: {ast.unparse(node)[:60]}")
    return refusals


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_a_source_loads_nothing_that_runs_code(path: Path):
    assert not faults(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "yaml.load(text)",
        "yaml.unsafe_load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.save(path, array)",
        "YAML(typ='unsafe')",
        "YAML(typ='full')",
        "eval(text)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_what_could_run_code_is_found(code):
    assert faults(ast.parse(code))


@pytest.mark.parametrize("code", ["model.eval()", "np.load(path, allow_pickle=False)", "YAML(typ='safe')", "YAML()"])
def test_what_is_safe_is_left_alone(code):
    assert not faults(ast.parse(code))
