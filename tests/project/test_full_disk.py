"""A disk that fills up while a stage writes: a limit on the size of files, which even root can't pass."""

import sys

import pytest

from pipeline import params
from tests.conftest import run

pytestmark = pytest.mark.long
KIBIBYTES = 4  # that a file may have


@pytest.mark.parametrize("words", [
    "prepare", "train_teacher TEACHER", "cache_logits TEACHER", "fit_ensemble", "distill ensemble 0",
    "export student ensemble", "export_ensemble", "benchmark", "report",
])  # fmt: skip
def test_a_stage_that_finds_no_room_is_a_sentence_and_leaves_what_was_there(own_digits, words):
    before, teacher = _made(own_digits), next(iter(params.load(own_digits / "params.yaml").teachers))
    words = words.replace("TEACHER", teacher)
    result = run("bash", "-c", f"ulimit -f {KIBIBYTES} && exec {sys.executable} -m stages.{words}", cwd=own_digits)
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: The operating system refused: File too large (")
    assert _made(own_digits) == before


def _made(root):
    """Every whole file of the stages, with its content."""
    return {path: path.read_bytes() for folder in ("models", "data/logits", "data/prepared", "data/targets", "reports")
            for path in (root / folder).rglob("*") if path.is_file() and not path.name.startswith(".")}  # fmt: skip
