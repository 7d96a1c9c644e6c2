"""`.ci/repro` and its report: by hand values, and for real in a clone of the digits project with a filled cache."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from pipeline.project.errors import PipelineError
from pipeline.reporting import review
from pipeline.reporting.review import Review
from tests.conftest import commit, run, stages_run
from tests.stages.test_end_to_end import MEASURES, replace


def answers(samples=100, wrong=0, seeds=2, **changes):
    """Of two classes, all labelled 1; every seed of the student errs on the first `wrong` samples."""
    columns = dict.fromkeys(("label", "alone-0", "single-0", "ensemble-0"), [1] * samples)
    columns |= {f"student-{seed}": [0] * wrong + [1] * (samples - wrong) for seed in range(seeds)}
    return pd.DataFrame(columns | changes)


def reviewed(**changes):
    both = {"student_accuracy": 0.9, "ensemble_accuracy": 0.95, "single_accuracy": 0.94, "gain_over_alone": 0.02}
    plain = {"base": "main", "params": {}, "stages": [], "before": both, "after": both, "intervals": {},
             "unpaired": "", "limit": 0.005}  # fmt: skip
    return Review(**plain | changes)


def changed(**metrics):
    return reviewed(after=reviewed().before | metrics)


def test_changed_params_are_those_that_differ_with_what_was_added_and_removed():
    before = {"seed": 0, "distill": {"temperature": 2.0, "alpha": 0.7}, "old": None}
    after = {"seed": 0, "distill": {"temperature": 4.0, "alpha": 0.7}, "new": {"a": [1, 2]}}
    assert review.changed_params(before, after) == {
        "distill.temperature": ("2.0", "4.0"), "new.a": ("-", "[1, 2]"), "old": ("None", "-")
    }  # fmt: skip


def test_the_interval_of_a_change_has_its_sign_and_holds_it():
    better, worse = review.intervals(answers(wrong=40), answers()), review.intervals(answers(), answers(wrong=40))
    assert 0 < better["student_accuracy"][0] < 0.4 < better["student_accuracy"][1]
    assert worse["student_accuracy"][0] < -0.4 < worse["student_accuracy"][1] < 0
    assert better["single_accuracy"] == better["alone_accuracy"] == better["ensemble_accuracy"] == (0, 0)


def test_the_interval_is_paired_image_by_image():
    """The same half right before and after leaves no doubt; another half leaves much."""
    half = answers(**{"single-0": [0] * 50 + [1] * 50})
    assert review.intervals(half, half)["single_accuracy"] == (0, 0)
    low, high = review.intervals(half, answers(**{"single-0": [1] * 50 + [0] * 50}))["single_accuracy"]
    assert low < -0.1 and high > 0.1


def test_the_interval_covers_seeds_where_both_have_as_many():
    """One seed gains 20 points and the other one none: by two seeds nobody can tell; as means images alone speak."""
    one = answers(wrong=20, **{"student-1": [1] * 100})
    low, high = review.intervals(one, answers())["student_accuracy"]
    assert low < 0 and high > 0.2
    low, high = review.intervals(one, answers(seeds=3))["student_accuracy"]
    assert 0 < low < 0.1 < high


def test_other_labels_have_no_interval():
    with pytest.raises(PipelineError, match="labels"):
        review.intervals(answers(), answers(label=[0] + [1] * 99))
    with pytest.raises(PipelineError, match="labels"):
        review.intervals(answers(100), answers(99))


def test_a_row_that_nothing_answers_for_is_refused():
    with pytest.raises(PipelineError, match="best single teacher"):
        review.intervals(answers(), answers().drop(columns="single-0"))


@pytest.mark.parametrize(
    ("row", "who"),
    [("student_accuracy", "taught student"), ("ensemble_accuracy", "ensemble"), ("single_accuracy", "single teacher")],
)
def test_the_row_that_fell_is_named_with_before_after_and_the_limit(row, who):
    (sentence,) = review.fallen(changed(**{row: 0.85}))
    before = 100 * reviewed().before[row]
    assert who in sentence and row in sentence
    assert f"from {before:.2f} % to 85.00 %" in sentence and "allows 0.50" in sentence


def test_what_falls_by_the_limit_or_is_no_accuracy_is_no_regression():
    assert not review.fallen(changed(student_accuracy=0.895, gain_over_alone=0.0))
    assert review.fallen(changed(student_accuracy=0.8949))


def test_a_base_without_a_summary_has_nothing_that_fell():
    new = reviewed(before={})
    assert not review.fallen(new) and "nothing to compare with" in review.headline(new)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((0.001, 0.02), "is better"), ((-0.02, -0.001), "is worse"), ((-0.01, 0.01), "no difference beyond chance")],
)
def test_the_headline_follows_the_interval(interval, verdict):
    assert verdict in review.headline(reviewed(stages=["publish"], intervals={"student_accuracy": interval}))


def test_the_headline_says_that_nothing_changed():
    assert review.headline(reviewed()).startswith("Nothing changed since main")


def test_the_report_has_every_row_and_escapes_the_bars_of_a_table():
    several = reviewed(
        params={"data.path": ("a|b", "c")}, stages=["publish"], after=reviewed().before | {"student_accuracy": 0.91},
        intervals={"student_accuracy": (0.004, 0.016)},
    )  # fmt: skip
    text = review.markdown(several)
    rows = [[cell.strip() for cell in line.split(" |")] for line in text.splitlines() if line.startswith("| ")]
    assert ["| data.path", r"a\|b", "c", ""] in rows
    assert ["| student_accuracy", "0.9", "0.91", "+0.01", "[+0.0040, +0.0160]", ""] in rows
    assert ["| gain_over_alone", "0.02", "0.02", "+0", "", ""] in rows
    assert "`publish`." in text and "fractions of the images of val" in text


def test_the_report_says_why_there_is_no_interval():
    assert "not in the cache" in review.markdown(reviewed(unpaired="It is not in the cache."))


def cloned(digits: Path, folder: Path) -> Path:
    """A clone of what the digits project has committed, with its cache; `origin` is a bare repository."""
    remote, root = folder / "remote.git", folder / "project"
    for words in (("clone", "-q", "--bare", str(digits), str(remote)), ("clone", "-q", str(remote), str(root))):
        assert run("git", *words, cwd=folder).returncode == 0
    shutil.copytree(digits / ".dvc/cache", root / ".dvc/cache")
    for words in ("branch base", "config user.name test", "config user.email test@localhost"):
        assert run("git", *words.split(), cwd=root).returncode == 0
    return root


@pytest.fixture
def clone(digits, tmp_path):
    return cloned(digits, tmp_path)


def ci(root: Path, *words: str) -> SimpleNamespace:
    """`.ci/repro` against the branch `base`: the stages that ran, its report, and the page of the job's summary."""
    report, page = root / "review.md", root.parent / "page.md"
    report.unlink(missing_ok=True)
    page.write_text("before\n")
    done = run("env", f"GITHUB_STEP_SUMMARY={page}", sys.executable, ".ci/repro", "--base", "base", *words, cwd=root)
    return SimpleNamespace(
        root=root, status=done.returncode, errors=done.stderr, stages=set(stages_run(done.stdout)),
        output=done.stdout, report=report.read_text() if report.exists() else "", page=page.read_text(),
    )  # fmt: skip


def table_row(report: str, name: str) -> list[str]:
    (line,) = [line for line in report.splitlines() if line.startswith(f"| {name} ")]
    return [cell.strip() for cell in line.split("|")[2:-1]]


def pushed(root: Path, branch: str, path: str) -> str:
    return run("git", "--git-dir", str(root.parent / "remote.git"), "show", f"{branch}:{path}", cwd=root).stdout


STUDENTS = {"distill@single-0", "distill@ensemble-0", "export_student@single", "export_student@ensemble"}


def test_an_unchanged_project_runs_nothing_and_passes(clone):
    done = ci(clone, "--push", "unchanged")
    assert done.status == 0, done.errors
    assert done.stages == set() and "Nothing changed since base" in done.report
    assert not pushed(clone, "unchanged", "dvc.lock")


@pytest.fixture(scope="module")
def warmer(digits, tmp_path_factory):
    """The report on another temperature, whatever it is worth, pushed to a branch."""
    root = cloned(digits, tmp_path_factory.mktemp("warmer"))
    replace(root, "temperature: 2.0", "temperature: 5.0")
    replace(root, "ci: {}", "ci: {max_regression: 1.0}")
    commit(root)
    (root / "reports/note.txt").write_text("of the user's own")
    return ci(root, "--push", "warmer")


@pytest.mark.long
def test_a_changed_param_runs_what_depends_on_it_and_reads_no_test(clone):
    replace(clone, "temperature: 2.0", "temperature: 5.0")
    replace(clone, "ci: {}", "ci: {max_regression: 1.0}")
    commit(clone)
    before = (clone / "reports/test_reads.csv").read_bytes()
    done = ci(clone)
    assert done.status == 0, done.errors
    assert done.stages == STUDENTS | {"score_students", "time_models", "choose"}
    assert (clone / "reports/test_reads.csv").read_bytes() == before


@pytest.mark.long
def test_a_release_runs_all_that_depends_on_a_changed_param_and_counts_that_test_was_read(warmer):
    assert warmer.status == 0, warmer.errors
    assert warmer.stages == STUDENTS | {"score_students", *MEASURES}
    before = run("git", "show", "base:reports/test_reads.csv", cwd=warmer.root).stdout.splitlines()
    assert pushed(warmer.root, "warmer", "reports/test_reads.csv").splitlines()[:-1] == before
    assert all(f"`{stage}`" in warmer.report for stage in warmer.stages)


@pytest.mark.long
def test_the_report_shows_the_param_before_and_after(warmer):
    assert table_row(warmer.report, "distill.temperature") == ["2.0", "5.0"]


@pytest.mark.long
def test_the_report_shows_each_metric_with_the_paired_interval_of_an_accuracy(warmer):
    before = json.loads(run("git", "show", "base:metrics/val_summary.json", cwd=warmer.root).stdout)
    after = json.loads((warmer.root / "metrics/val_summary.json").read_text())
    for name in after:
        assert [float(cell) for cell in table_row(warmer.report, name)[:2]] == pytest.approx(
            [before[name], after[name]], rel=1e-3
        )
    low, high = json.loads(table_row(warmer.report, "student_accuracy")[3].replace("+", ""))
    assert low - 1e-4 <= after["student_accuracy"] - before["student_accuracy"] <= high + 1e-4
    assert low < high
    assert table_row(warmer.report, "single_accuracy")[2:] == ["+0", "[+0.0000, +0.0000]"]  # no teacher ran


@pytest.mark.long
def test_push_sends_the_lock_and_metrics_and_no_other_file(warmer):
    for path in (
        "dvc.lock",
        "metrics/summary.json",
        "metrics/val_summary.json",
        "reports/benchmark.csv",
        "params.yaml",
    ):
        assert pushed(warmer.root, "warmer", path) == (warmer.root / path).read_text()
    assert not pushed(warmer.root, "warmer", "reports/note.txt")


@pytest.mark.long
def test_the_report_is_added_to_the_jobs_summary(warmer):
    assert warmer.page == "before\n" + warmer.report


@pytest.mark.long
def test_a_student_that_learns_nothing_fails_by_name_after_the_report_and_is_not_pushed(clone):
    replace(clone, "objective: kd, alpha: 0.4", "objective: dist, alpha: 1.0, weights: {inter: 0.0, intra: 0.0}")
    commit(clone)
    done = ci(clone, "--push", "worse")
    assert done.status == 1
    (sentence,) = done.errors.splitlines()
    assert sentence.startswith("error: The accuracy on val of the taught student (student_accuracy) fell from")
    assert "allows 0.50" in sentence
    assert "is worse than that of base" in done.report and sentence.removeprefix("error: ") in done.report
    assert not pushed(clone, "worse", "dvc.lock")


@pytest.mark.long
def test_without_the_bases_answers_the_report_says_so(warmer, tmp_path):
    root = shutil.copytree(warmer.root, tmp_path / "project")
    lock = run("git", "show", "base:dvc.lock", cwd=root).stdout
    md5 = lock.split("path: reports/val_predictions.csv")[1].split("md5: ")[1].split()[0]
    (root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]).unlink()
    done = ci(root)
    assert "neither in DVC's cache nor in a remote" in done.report and "Traceback" not in done.errors


@pytest.mark.long
def test_a_stage_that_fails_is_named(clone):
    replace(clone, "ensemble: {folds: 3}", "ensemble: {folds: 3, budget_ms: 0.0001}")
    done = ci(clone)
    assert done.status == 1
    (sentence,) = done.errors.splitlines()
    assert sentence.startswith("error: fit_ensemble failed; the reason stands above.")
    assert "`ensemble.budget_ms` is 0.0001" in done.output


def test_a_base_that_is_none_is_refused(clone):
    done = run(sys.executable, ".ci/repro", "--base", "nowhere", cwd=clone)
    assert done.returncode == 1 and "`nowhere` shares no commit with HEAD" in done.stderr
