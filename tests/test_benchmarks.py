import ast
import importlib
import inspect
import json
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import __main__, advice, decoding, finetune, page, peak_memory, photos, timing
from benchmarks.page import Figure
from pipeline import params
from pipeline.project import data
from pipeline.project.errors import PipelineError
from tests import toys
from tests.conftest import CHECKOUT


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("before\n<!-- loop -->\nold\n<!-- /loop -->\nafter\n")
    monkeypatch.setattr(page, "PAGE", tmp_path / "README.md")
    monkeypatch.setattr(page, "RESULTS", tmp_path / "results.json")
    return tmp_path


def test_tables_take_the_place_of_the_old_ones_and_figures_join_those_of_others(place):
    (place / "results.json").write_text('{"other": {"value": 1, "limit": 2, "ok": true}}')
    page.publish("loop", pd.DataFrame({"loop": ["bare"]}), [Figure("slow", 3, 2), Figure("fast", 3, 2, at_least=True)])
    text = (place / "README.md").read_text()
    assert text.startswith("before\n") and text.endswith("<!-- /loop -->\nafter\n")
    assert "old" not in text and "bare" in text and "falls short" in text
    results = json.loads((place / "results.json").read_text())
    assert {name: row["ok"] for name, row in results.items()} == {"other": True, "slow": False, "fast": True}


def test_cases_take_turns_after_a_round_that_is_not_timed():
    calls = []
    seconds = timing.alternate({name: lambda name=name: calls.append(name) for name in "ab"}, 3)
    assert calls == ["a", "b"] * 4
    assert all(len(values) == 3 for values in seconds.values())


def test_a_ratio_is_the_median_of_the_ratios_of_each_round():
    assert timing.ratio({"a": np.array([1.0, 4.0, 9.0]), "b": np.array([1.0, 2.0, 3.0])}, "a", "b") == 2


def test_every_benchmark_has_its_place_and_its_figures():
    text = (CHECKOUT / "benchmarks/README.md").read_text()
    for name in __main__.NAMES:
        table = text.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0]
        assert "| figure" in table
    results = json.loads((CHECKOUT / "benchmarks/results.json").read_text())
    assert all(set(row) == {"value", "limit", "ok"} for row in results.values())


@pytest.mark.parametrize("name", advice.QUESTIONS)
def test_every_piece_of_advice_has_a_baseline_and_its_place(name, monkeypatch):
    monkeypatch.setattr(advice, "_parameters", lambda student: 1_000_000 * sum(student.kwargs["channels"]))
    arms = advice.QUESTIONS[name].arms(params.load(CHECKOUT / "params.yaml"))
    assert {arm.line for arm in arms} == {"student alone", "taught"}
    assert len({arm.name for arm in arms}) == len(arms)
    text = advice.PAGE.read_text()
    assert f"<!-- {name} -->" in text and f"pictures/{name}.png" in text


def test_a_taught_student_is_compared_with_the_best_baseline_of_its_own_size(monkeypatch):
    labels = np.zeros(10, np.int64)
    monkeypatch.setattr(advice.data, "open_split", lambda *_: data.Split(np.zeros((10, 1)), labels))
    arms = [advice.Arm("small", 1, {}, None), advice.Arm("small, better", 1, {}, None), advice.Arm("big", 2, {}, None),
            advice.Arm("taught small", 1, {}, {}), advice.Arm("taught big", 2, {}, {})]  # fmt: skip
    right = [[4, 4], [5, 5], [8, 8], [7, 9], [9, 9]]  # of ten, for each of two seeds
    answers = np.array([[[[0, -1]] * count + [[-1, 0]] * (10 - count) for count in seeds] for seeds in right])
    table = advice._table(arms, answers.astype(np.float32), params.load(CHECKOUT / "params.yaml")).set_index("student")
    assert table.loc["taught small", "over alone [95 %]"].startswith("+30.00 [")
    assert table.loc["taught big", "over alone [95 %]"].startswith("+10.00 [")
    assert table.loc["small", "over alone [95 %]"] == ""
    assert table.loc["taught small", "p over seeds"] == "0.205"  # scipy.stats.ttest_rel([0.7, 0.9], [0.5, 0.5])


def test_every_objective_is_compared_with_plain_kd_on_the_same_images(monkeypatch):
    labels = np.zeros(10, np.int64)
    monkeypatch.setattr(advice.data, "open_split", lambda *_: data.Split(np.zeros((10, 1)), labels))
    arms = [advice.Arm("student alone", 0, {}, None), advice.Arm("dist", 0, {}, {}), advice.Arm("kd", 0, {}, {})]
    right = [[4, 4], [7, 9], [7, 8]]  # of ten, for each of two seeds
    answers = np.array([[[[0, -1]] * count + [[-1, 0]] * (10 - count) for count in seeds] for seeds in right])
    assert advice._over_kd(arms, answers, params.load(CHECKOUT / "params.yaml")) == ["", "+5.00 [+0.00, +15.00]", ""]


@pytest.mark.parametrize("name", sorted(path.stem for path in (CHECKOUT / "benchmarks").glob("[a-z]*.py")))
def test_a_benchmark_asks_no_module_for_what_it_does_not_have(name):
    module = importlib.import_module(f"benchmarks.{name}")
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = getattr(module, node.value.id, None)
            assert not isinstance(owner, ModuleType) or hasattr(owner, node.attr), f"{node.value.id}.{node.attr}"


@pytest.fixture
def published(monkeypatch):
    """What is published: by section its table and figures."""
    published = {}
    monkeypatch.setattr(page, "publish", lambda section, table, figures: published.update({section: (table, figures)}))
    return published


def test_decoding_compares_prepare_with_every_number_of_workers(published, monkeypatch):
    for name, value in {"IMAGES": 100, "CLASSES": 2, "SIZE": 16, "WORKERS": (0, 1), "ROUNDS": 1}.items():
        monkeypatch.setattr(decoding, name, value)
    decoding.main()
    table, figures = published["decoding"]
    assert table["reader"].tolist() == [
        "decode and resize",
        "prepare, all of it",
        "torchvision, 0 workers",
        "torchvision, 1 workers",
    ]
    assert all(0 < float(share.removesuffix(" %")) <= 110 for share in table["cores busy"])
    assert len(figures) == 2 and figures[0].value > 0


def test_photos_are_compared_with_torchvision_with_and_without_hue(published, monkeypatch):
    for name, value in {"IMAGES": 64, "STORED": 40, "SIZE": 32, "WORKERS": (0, 1), "ROUNDS": 1}.items():
        monkeypatch.setattr(photos, name, value)
    photos.main()
    table, figures = published["photos"]
    assert len(table) == 1 + 2 * 3 and len(figures) == 2
    assert all(0 < float(cores) < 4 for cores in table["cores busy"])


def test_torchvision_makes_all_images_and_ours_the_same_number(tmp_path, monkeypatch):
    for name, value in {"IMAGES": 60, "CLASSES": 2, "SIZE": 16}.items():
        monkeypatch.setattr(decoding, name, value)
    decoding.write_images(tmp_path / "images")
    asked = toys.data_params(source="image_folder", path=str(tmp_path / "images"), image_size=16)
    decoding.prepare(asked, tmp_path)
    assert decoding.load(tmp_path / "images", 0) == 60
    assert sum(len(data.open_split(tmp_path / "prepared", name)) for name in ("train", "val", "test")) == 60


@pytest.mark.long
def test_peak_memory_compares_two_sizes(published, monkeypatch):
    monkeypatch.setattr(peak_memory, "SMALL", 10**6)
    monkeypatch.setattr(peak_memory, "LARGE", 4 * 10**6)
    monkeypatch.setattr(peak_memory, "EPOCHS", {10**6: 1, 4 * 10**6: 1})
    monkeypatch.chdir(CHECKOUT)
    peak_memory.main()
    table, figures = published["peak_memory"]
    assert table["peak of anonymous memory"].tolist() == ["train", "write"]
    assert all(0.5 < figure.value < 2 for figure in figures)


def test_what_fine_tuning_gains_is_paired_with_random_weights_of_the_same_seed():
    hits = np.zeros((2, 3, 10), bool)  # starts, seeds, samples
    for seed, (random, pretrained) in enumerate([(2, 6), (3, 8), (4, 7)]):
        hits[0, seed, :random] = hits[1, seed, :pretrained] = True
    table = finetune.table(["random", "pretrained"], hits, seed=0)
    assert list(table["val accuracy %"]) == ["30.0", "70.0"]
    assert list(table["each seed"]) == ["20.0, 30.0, 40.0", "60.0, 80.0, 70.0"]
    assert table["over random [95 %]"][1].startswith("+40.0 [") and table["over random [95 %]"][0] == ""
    assert table["p over seeds"][1] == "0.020"  # scipy.stats.ttest_rel([6, 8, 7], [2, 3, 4])


def test_weights_of_other_names_take_those_of_the_layers_in_their_order():
    first, second = torch.zeros(3, 2), torch.ones(4)
    weights = finetune.renamed({"_a": first, "_b": second}, {"a.weight": torch.empty(3, 2), "b.bias": torch.empty(4)})
    assert weights == {"a.weight": first, "b.bias": second}
    with pytest.raises(PipelineError, match="layer by layer"):
        finetune.renamed({"_a": first, "_b": second}, {"b.bias": torch.empty(4), "a.weight": torch.empty(3, 2)})
