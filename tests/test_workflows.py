"""The GitHub workflows parse, and leave the work to the project's own scripts."""

import pytest
from ruamel.yaml import YAML

from tests.conftest import CHECKOUT

FOLDER = CHECKOUT / ".github/workflows"
WATCHED = {"params.yaml", "data/*.dvc", "dvc.yaml", "pipeline/**", "stages/**", "requirements.txt"}


def loaded(name):
    return YAML(typ="safe").load((FOLDER / f"{name}.yml").read_text())


def steps(name):
    return [step for job in loaded(name)["jobs"].values() for step in job["steps"]]


def test_every_push_is_tested():
    assert loaded("tests")["on"] == "push"
    assert [step["run"] for step in steps("tests") if "run" in step] == ["bash .ci/run"]


def test_a_pull_request_that_touches_what_decides_results_is_reproduced():
    assert set(loaded("repro")["on"]["pull_request"]["paths"]) == WATCHED
    commands = [step["run"].split()[0] for step in steps("repro") if "run" in step]
    assert commands == ["pip", ".ci/repro", "gh"]


def test_every_night_runs_the_long_tests_too():
    assert "schedule" in loaded("nightly")["on"]
    assert [step["run"] for step in steps("nightly") if "run" in step] == ['make test-all ORDER="$GITHUB_RUN_NUMBER"']


@pytest.mark.parametrize("name", ["tests", "repro", "nightly"])
def test_no_value_from_outside_is_pasted_into_a_script(name):
    assert not [step["run"] for step in steps(name) if "${{" in step.get("run", "")]
    assert "secrets." not in (FOLDER / f"{name}.yml").read_text()


@pytest.mark.parametrize("name", ["tests", "repro"])
def test_the_scripts_that_a_workflow_calls_are_there(name):
    words = " ".join(step.get("run", "") for step in steps(name)).split()
    scripts = [word for word in words if word.startswith(".ci/")]
    assert scripts and all((CHECKOUT / script).stat().st_mode & 0o100 for script in scripts)
