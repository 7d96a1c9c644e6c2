from PIL import Image

from pipeline.reporting import figures
from pipeline.tracking import sweeps


def run(alpha, temperature, accuracy, lr="0.01"):
    params = {"distill.alpha": str(alpha), "distill.temperature": str(temperature), "student.lr": lr}
    return params, {"val_accuracy/baseline": 0.5, "val_accuracy/ensemble": accuracy, "val_nll/ensemble": 9.0}


RUNS = [run(0.5, 1.0, 0.6), run(0.5, 4.0, 0.7), run(0.9, 4.0, 0.8), run(0.5, 1.0, 0.1, lr="0.02")]


def test_runs_that_differ_in_something_else_are_left_out():
    points = sweeps.comparable(RUNS, RUNS[0][0])
    taught = points[points["arm"] == "ensemble"]
    assert taught[["alpha", "temperature", "accuracy"]].values.tolist() == [
        [0.5, 1.0, 0.6],
        [0.5, 4.0, 0.7],
        [0.9, 4.0, 0.8],
    ]
    assert set(points["arm"]) == {"baseline", "ensemble"}


def test_of_runs_with_the_same_settings_the_newest_counts():
    points = sweeps.comparable([run(0.5, 1.0, 0.6), run(0.5, 1.0, 0.9)], RUNS[0][0])
    assert points.loc[points["arm"] == "ensemble", "accuracy"].tolist() == [0.6]


def test_a_setting_that_only_one_of_them_has_makes_runs_incomparable():
    assert sweeps.comparable([run(0.5, 1.0, 0.6)], {**RUNS[0][0], "student.ema": "0.9"}).empty


def test_the_picture_of_a_sweep_is_a_png(tmp_path):
    figures.sweep(sweeps.comparable(RUNS, RUNS[0][0]), tmp_path / "sweep.png")
    with Image.open(tmp_path / "sweep.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 300
