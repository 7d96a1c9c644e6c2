"""The whole pipeline on digits: what it leaves, and what a change makes run again."""

import json
import sqlite3
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from pipeline import params
from pipeline.reporting.corruptions import SEVERITY
from tests.conftest import repro, repro_in_parallel, run, run_stage

MEMBERS = ["resnet_0", "resnet_1", "byobnet"]
STUDENTS = ["baseline", "single", "ensemble"]
MEASURES = ["time_models", "choose", "benchmark", "report", "publish"]
METHODS = ["mean_probs", "mean_logits", "vote", "weighted", "greedy", "stacking"]


def replace(root: Path, old: str, new: str) -> None:
    path = root / "params.yaml"
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} is in params.yaml {text.count(old)} times"
    path.write_text(text.replace(old, new))


def test_the_table_has_a_row_for_every_method_and_no_empty_cell(digits):
    rows = pd.read_csv(digits / "reports/benchmark.csv").set_index("method")
    assert list(rows.index[:-4]) == [*MEMBERS, "simple", *METHODS, *STUDENTS]
    assert list(rows.index[-3:]) == [f"{name}_int8" for name in STUDENTS]
    assert rows.index[-4].removesuffix("_int8") in MEMBERS
    few = [name for name in rows if name.startswith("p99") or name in ("p90_ms_high", "p95_ms_high")]  # calls
    assert rows.drop(columns=["accuracy_std", "p50_ms_torch", *few]).notna().all(axis=None)
    assert rows.loc[[*MEMBERS, *STUDENTS], "p50_ms_torch"].notna().all()
    assert (rows["accuracy_low"] <= rows["accuracy"]).all() and (rows["accuracy"] <= rows["accuracy_high"]).all()
    assert (rows["p50_ms"] <= rows["p95_ms"]).all()


def test_teachers_learn_more_than_chance(digits):
    rows = pd.read_csv(digits / "reports/benchmark.csv").set_index("method")
    assert rows.loc[MEMBERS, "accuracy"].min() > 0.5


def test_the_ensemble_has_the_parameters_and_bytes_of_its_members(digits):
    rows = pd.read_csv(digits / "reports/benchmark.csv").set_index("method")
    assert rows.loc["simple", "parameters"] == rows.loc[MEMBERS, "parameters"].sum()
    assert rows.loc["simple", "size_bytes"] == pytest.approx(rows.loc[MEMBERS, "size_bytes"].sum(), rel=0.2)


def test_a_taught_student_costs_its_teachers_too(digits):
    rows = pd.read_csv(digits / "reports/benchmark.csv").set_index("method")
    teachers = rows.loc[MEMBERS, "train_images"]
    assert rows.loc["simple", "train_images"] == teachers.sum()
    assert rows.loc["single", "train_images"] > rows.loc["baseline", "train_images"] + teachers.min()


def test_exported_models_decide_as_torch_does(digits):
    paths = [*(digits / "models/exported").rglob("scores.json")]
    assert len(paths) == 7
    for path in paths:
        assert json.loads(path.read_text())["onnx"]["changed_decisions"] == 0, path.name


def test_what_ships_is_decided_copied_and_the_first_champion(digits):
    chosen = json.loads((digits / "metrics/deployed.json").read_text())
    assert (digits / "models/deployed.onnx").read_bytes() == (digits / chosen["file"]).read_bytes()
    assert "ships: " in (digits / "reports/decision.md").read_text()
    listed = run(sys.executable, "-m", "pipeline.tracking.registry", cwd=digits)
    assert "fashion 1" in listed.stdout and "champion" in listed.stdout


def test_the_report_holds_every_row_of_the_tables_and_real_images(digits):
    text = (digits / "reports/report.html").read_text()
    names = [line.split("|")[1].strip() for line in (digits / "reports/benchmark.md").read_text().splitlines()
             if line.startswith("| ") and not line.startswith("| method")]  # fmt: skip
    assert len(names) == 4 * len(pd.read_csv(digits / "reports/benchmark.csv")) + 1  # and what is timed end to end
    for name in names:
        assert text.count(f"<td>{name}</td>") >= 3
    predictions = pd.read_csv(digits / "reports/predictions.csv")
    chosen = json.loads((digits / "metrics/benchmark.json").read_text())["chosen_ensemble"]
    lost = (predictions[chosen] == predictions["label"]) & (predictions["ensemble"] != predictions["label"])
    assert f"wrong on {lost.sum()} of {len(predictions)} test images" in text
    assert text.count('<img src="data:image/png;base64,') > min(lost.sum(), 24) > 0
    assert text.count('class="picture" src="data:image/png;base64,') == 6


def test_the_report_shows_what_prepare_made_and_what_students_see_of_it(digits):
    section = (digits / "reports/report.html").read_text().split("<h2>The data</h2>")[1].split("</section>")[0]
    rows = section.split('<div class="row enlarged">')[1:]
    assert [row.split("</div>")[0].removeprefix("<div>") for row in rows] == [*"0123456789", *"012345"]
    views = params.load(digits / "params.yaml").student_views.count
    assert [row.count("<img ") for row in rows] == [6] * 10 + [1 + views] * 6


def test_what_prepare_has_to_say_comes_first_in_report_and_overview(own_digits):
    path, note = own_digits / "metrics/data.json", "52 % of the images of test are <also> in train."
    path.write_text(json.dumps(json.loads(path.read_text()) | {"notes": [note]}))
    (own_digits / "dvc.lock").unlink()  # which has the digest of the file as it was
    assert run_stage("report", own_digits).returncode == 0
    text = (own_digits / "reports/report.html").read_text()
    assert 0 < text.index("52 % of the images of test are &lt;also&gt; in train.") < text.index("What ships is")
    assert (own_digits / "reports/overview.md").read_text().startswith(f"{note}\n\n| method")


def test_every_row_has_its_accuracy_under_corruptions_of_which_none_is_harmless_to_all(digits):
    rows = pd.read_csv(digits / "reports/benchmark.csv").set_index("method")
    under = rows[[name for name in rows if name.startswith("corrupted_") and name.split("_")[1] in SEVERITY]]
    assert list(under) == [f"corrupted_{name}" for name in SEVERITY]
    assert rows["corrupted"].to_numpy() == pytest.approx(under.mean(axis=1).to_numpy())
    assert rows["corrupted_clean"].to_numpy() == pytest.approx(rows["accuracy"].to_numpy())  # as all images are taken
    assert (under.sub(rows["accuracy"], axis=0).abs().max() > 0).all()
    assert rows["corrupted"].mean() < rows["accuracy"].mean()


def test_every_stage_has_one_finished_run_and_the_summary_links_to_it(digits):
    with sqlite3.connect(digits / "mlflow.db") as store:
        experiments = dict(store.execute("select name, experiment_id from experiments"))
        names = store.execute(
            "select name from runs where experiment_id = ? and status = 'FINISHED'",
            (experiments["distillation-stages"],),
        ).fetchall()
        links = store.execute("select key from tags where key like 'stage.%'").fetchall()
    stages = [line.split()[0] for line in run("dvc", "stage", "list", cwd=digits).stdout.splitlines()]
    assert len(stages) == 25
    assert {key.removeprefix("stage.") for (key,) in links} == set(stages) - {"publish"}
    assert len(names) == len(stages) - 1


def test_dvc_shows_metrics_and_plots(own_digits):
    shown = json.loads(run("dvc", "metrics", "show", "--json", cwd=own_digits).stdout)
    assert set(shown[""]["data"]) == {"metrics/students.json", "metrics/summary.json", "metrics/val_summary.json"}
    assert len(shown[""]["data"]["metrics/summary.json"]["data"]) <= 20
    assert run("dvc", "plots", "show", cwd=own_digits).returncode == 0


def test_the_report_is_the_same_when_it_is_written_again(own_digits):
    before = (own_digits / "reports/report.html").read_bytes()
    assert run_stage("report", own_digits).returncode == 0
    assert (own_digits / "reports/report.html").read_bytes() == before


def test_nothing_runs_when_nothing_changed(own_digits):
    assert repro(own_digits) == []


@pytest.mark.parametrize(
    ("old", "new", "trains"),
    [
        ("student_seeds: [0]", "student_seeds: [0, 1]", {"train_baseline@1", "distill@single-1", "distill@ensemble-1"}),
        ("model: test_byobnet,", "model: test_byobnet, ema: 0.5,", {"train_teacher@byobnet"}),
    ],
)
def test_a_change_trains_what_it_is_of_and_a_reverted_one_nothing(own_digits, old, new, trains):
    for before, after, expected in ((old, new, trains), (new, old, set())):
        replace(own_digits, before, after)
        changed = json.loads(run("dvc", "status", "--json", cwd=own_digits).stdout)
        assert {stage for stage in changed if stage.startswith(("train_", "distill", "cache_"))} == expected


@pytest.mark.long
def test_a_changed_teacher_runs_itself_and_what_depends_on_it_and_a_reverted_one_nothing(own_digits):
    old, new = "model: test_byobnet,", "model: test_byobnet, weight_decay: 0.1,"
    replace(own_digits, old, new)
    own = {"train_teacher@byobnet", "cache_logits@byobnet", "export_teacher@byobnet"}
    ran = set(repro_in_parallel(own_digits))
    assert ran >= own | {"time_members", "fit_ensemble", "export_ensemble", *MEASURES}
    assert not {stage for stage in ran if "resnet" in stage or "baseline" in stage or stage == "prepare"}
    replace(own_digits, new, old)
    assert repro(own_digits) == ["report", "publish"]  # the report says that test was read once more


@pytest.mark.long
def test_an_experiment_logs_to_the_project_and_not_to_its_scratch_folder(own_digits):
    before = _summaries(own_digits)
    result = run("dvc", "exp", "run", "--temp", "-S", "pipeline/defaults.yaml:deploy.tolerance=0.004", cwd=own_digits)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    assert _summaries(own_digits) == before + 1


@pytest.mark.long
def test_a_sweep_is_a_queue_of_experiments_and_the_summary_run_draws_it(own_digits):
    grid = ("-S", "distill.temperature=1.0,3.0", "-S", "distill.alpha=0.5", "score_students")
    for words in (("--queue", *grid), ("--run-all",)):
        result = run("dvc", "exp", "run", *words, cwd=own_digits)
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    shown = json.loads(run("dvc", "exp", "show", "--json", cwd=own_digits).stdout)
    assert str(shown).count("metrics/students.json") >= 3  # the workspace's and both experiments'
    assert run_stage("publish", own_digits).returncode == 0
    assert list(own_digits.glob("mlartifacts/**/alpha_by_temperature.png"))


@pytest.mark.long
def test_out_of_fold_targets_top_k_and_unlabelled_images_go_through_all_stages(own_digits):
    for number in range(40):
        Image.new("L", (16, 16), 6 * number).save(own_digits / f"data/none/unlabelled/{number}.png")
    text = (own_digits / "params.yaml").read_text()
    teachers = "teachers:\n  resnet: {model: test_resnet, kwargs: {channels: [4, 8, 8, 16]}, stem_stride: 1, "
    teachers += "epochs: 1, batch_size: 64, lr: 0.01}\n"
    text = text[: text.index("teachers:")] + teachers + text[text.index("student:") :]
    for old, new in (("logits: {}", "logits: {top_k: 5}"), ("cross_fit: {}", "cross_fit: {folds: 2}"),
                     ("sources: [single, ensemble]", "sources: [ensemble, from_resnet]")):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    (own_digits / "params.yaml").write_text(text)
    assert "train_teacher@resnet" in repro_in_parallel(own_digits)
    names = {path.name for path in (own_digits / "models/teachers").rglob("*.safetensors")}
    assert names == {"model.safetensors", "fold0of2.safetensors", "fold1of2.safetensors"}
    assert {path.name for path in (own_digits / "data/logits").iterdir()} == {"resnet"}  # of removed teachers nothing
    kept = json.loads((own_digits / "data/logits/resnet/manifest.json").read_text())["logits"]
    assert kept == {"top_k": 5}
    samples = json.loads((own_digits / "metrics/data.json").read_text())
    assert samples["unlabelled_samples"] == 40
    seen = {arm: json.loads((own_digits / f"runs/{arm}.json").read_text())["metrics"]["train_images"]
            for arm in ("train_baseline/0", "distill/ensemble-0")}  # fmt: skip
    epochs = params.load(own_digits / "params.yaml").student.epochs
    assert seen["distill/ensemble-0"] - seen["train_baseline/0"] == epochs * 40
    rows = pd.read_csv(own_digits / "reports/benchmark.csv")
    assert {"ensemble", "from_resnet"} < set(rows["method"])


def _summaries(root: Path) -> int:
    with sqlite3.connect(root / "mlflow.db") as store:
        return store.execute("select count(*) from tags where key = 'stage' and value = 'publish'").fetchone()[0]
