from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax, softmax

from pipeline.ensembles import selection, subsets
from pipeline.ensembles.ensemble import Ensemble
from pipeline.project.errors import PipelineError
from pipeline.scoring import metrics
from tests.ensembles.test_fitting import SETTINGS, members_and_labels

NAMES = ["a", "b", "c"]
LATENCY = {"a": 1.0, "b": 2.0, "c": 0.5, "a+b": 3.1, "a+c": 1.6, "b+c": 2.6, "a+b+c": 3.7}


def made(seed=0, **changes):
    logits, labels = members_and_labels(seed)
    return dict(zip(NAMES, logits, strict=True)), labels, SETTINGS.model_copy(update=changes)


@pytest.fixture(scope="module")
def selected():
    logits, labels, settings = made()
    return selection.select(logits, labels, settings, LATENCY, seed=0)


def test_auto_takes_the_simplest_that_is_within_a_standard_error_of_the_best():
    rng = np.random.default_rng(0)
    best = rng.random(1000)
    noise = rng.normal(0, 1, 1000)
    noise -= noise.mean()
    error = noise.std(ddof=1) / np.sqrt(1000)
    losses = {"far": best + noise + 1.1 * error, "near": best + noise + 0.9 * error, "equal": best, "best": best}
    assert selection.simplest(losses) == "near"
    assert selection.simplest({"far": losses["far"], "best": best}) == "best"
    assert selection.simplest({"best": best}) == "best"


@pytest.mark.parametrize("metric", ["nll", "accuracy"])
def test_the_loss_is_what_the_metric_averages(metric):
    logits, labels, _ = made()
    log_probs = log_softmax(logits["a"], axis=1)
    mean = selection.loss(log_probs, labels, metric).mean()
    scores = metrics.scores(log_probs, labels)
    assert mean == pytest.approx(scores["nll"] if metric == "nll" else 1 - scores["accuracy"])


def test_every_member_and_method_has_held_out_predictions_and_every_method_is_fitted(selected):
    methods = {"simple", *SETTINGS.methods}
    assert set(selected.held_out) == {*NAMES, *methods}
    assert set(selected.fitted) == methods and set(selected.singles) == set(NAMES)
    assert selected.chosen in methods and selected.members == NAMES


def test_the_best_member_is_the_best_of_the_held_out(selected):
    _, labels, _ = made()
    nll = {name: metrics.nll(selected.held_out[name], labels) for name in NAMES}
    assert selected.best == min(nll, key=nll.get) and selected.teacher("single").members == [selected.best]


def test_temperatures_are_of_members_as_they_are_and_of_methods_held_out(selected):
    """Members' own, however sharp they are; after theirs a method's is near 1, and no other one has a lower loss."""
    logits, labels, _ = made()
    found = selected.temperatures(labels)
    assert set(found) == {*NAMES, *selected.fitted}
    for name, rows in {**logits, "weighted": selected.held_out["weighted"]}.items():
        losses = {t: metrics.nll(log_softmax(rows / t, axis=1), labels) for t in found[name] * np.array([0.9, 1, 1.1])}
        assert min(losses, key=losses.get) == found[name]


def test_a_source_is_the_best_member_the_chosen_ensemble_or_a_named_member(selected):
    assert selected.teacher("ensemble") is selected.fitted[selected.chosen]
    assert selected.teacher("from_b") == selected.singles["b"] and selected.singles["b"].members == ["b"]


def test_the_gain_is_that_of_the_chosen_method_over_the_best_member(selected):
    _, labels, _ = made()
    hits = [metrics.correct(selected.held_out[name], labels).mean() for name in (selected.chosen, selected.best)]
    assert selected.gain["value"] == pytest.approx(hits[0] - hits[1])
    assert selected.gain["low"] <= selected.gain["value"] <= selected.gain["high"]


def test_a_method_that_is_named_is_taken():
    logits, labels, settings = made(select="greedy", methods=["greedy"])
    selected = selection.select(logits, labels, settings, LATENCY, seed=0)
    assert selected.chosen == "greedy" and set(selected.fitted) == {"simple", "greedy"}


def test_only_simple_can_be_compared():
    logits, labels, settings = made(methods=[])
    assert selection.select(logits, labels, settings, LATENCY, seed=0).chosen == "simple"


def test_a_single_teacher_is_an_ensemble_of_one():
    logits, labels, settings = made()
    selected = selection.select({"a": logits["a"]}, labels, settings, LATENCY, seed=0)
    assert selected.members == ["a"] and selected.gain["value"] == 0 and selected.contribution == {}


def test_subsets_are_all_of_them_for_eight_members_and_few_for_more():
    assert subsets.subsets_of(["a", "b"]) == [("a",), ("b",), ("a", "b")]
    assert len(subsets.subsets_of([str(number) for number in range(8)])) == 255
    twelve = [str(number) for number in range(12)]
    some = subsets.subsets_of(twelve)
    assert len(some) <= subsets.SUBSETS + 13 and tuple(twelve) in some and len(set(some)) == len(some)
    assert sum(len(names) == 11 for names in some) == 12


def test_forty_members_have_as_few_subsets_and_none_of_the_rest_is_made():
    forty = [str(number) for number in range(40)]
    assert {len(names) for names in subsets.subsets_of(forty)} == {1, 39, 40}


def test_a_subset_is_scored_by_the_mean_of_its_members_probabilities():
    logits, labels, _ = made()
    held_out = {name: log_softmax(member, axis=1) for name, member in logits.items()}
    table = selection.score_subsets(held_out, labels, LATENCY).set_index("members")
    assert list(table.index) == list(LATENCY) or set(table.index) == set(LATENCY)
    mean = np.mean([softmax(logits[name], axis=1) for name in ("a", "c")], axis=0)
    assert table.loc["a+c", "accuracy"] == pytest.approx((mean.argmax(axis=1) == labels).mean())
    assert table.loc["a+c", "nll"] == pytest.approx(-np.log(mean[np.arange(len(labels)), labels]).mean())
    assert table.loc["a+c", ["size", "p50_ms"]].tolist() == [2, 1.6]


def test_the_front_is_what_nothing_beats_in_both():
    logits, labels, _ = made()
    held_out = {name: log_softmax(member, axis=1) for name, member in logits.items()}
    table = selection.score_subsets(held_out, labels, LATENCY)
    for row in table.itertuples():
        others = table.drop(row.Index)
        better = (others["p50_ms"] <= row.p50_ms) & (others["accuracy"] >= row.accuracy)
        better &= (others["p50_ms"] < row.p50_ms) | (others["accuracy"] > row.accuracy)
        assert row.front == (not better.any())


SUBSETS = pd.DataFrame(
    [("a", 1.0, 0.90, 0.30), ("b", 2.0, 0.95, 0.35), ("a+b", 3.0, 0.94, 0.20)],
    columns=["members", "p50_ms", "accuracy", "nll"],
)


@pytest.mark.parametrize(
    ("budget", "metric", "members"),
    [
        (1.5, "nll", ["a"]),
        (2.5, "nll", ["a"]),
        (2.5, "accuracy", ["b"]),
        (9, "accuracy", ["b"]),
        (9, "nll", ["a", "b"]),
    ],
)
def test_a_budget_takes_the_best_that_fits(budget, metric, members):
    assert selection.within_budget(SUBSETS, budget, metric) == members


def test_a_budget_that_none_fits_is_refused_with_the_nearest():
    with pytest.raises(PipelineError, match=r"budget_ms` is 0\.5, but even the fastest, a, takes 1\.000 ms"):
        selection.within_budget(SUBSETS, 0.5, "nll")


def test_a_budget_leaves_out_members_that_cost_too_much():
    logits, labels, settings = made(budget_ms=1.7)
    selected = selection.select(logits, labels, settings, LATENCY, seed=0)
    assert "b" not in selected.members
    assert all(set(one.members) <= set(selected.members) for one in selected.fitted.values())


def test_a_contribution_is_what_leaving_a_member_out_costs():
    logits, labels, _ = made()
    held_out = {name: log_softmax(member, axis=1) for name, member in logits.items()}
    table = selection.score_subsets(held_out, labels, LATENCY).set_index("members")
    added = selection.contributions(held_out, labels)
    assert added["b"]["accuracy"] == pytest.approx(table.loc["a+b+c", "accuracy"] - table.loc["a+c", "accuracy"])
    assert added["b"]["nll"] == pytest.approx(table.loc["a+c", "nll"] - table.loc["a+b+c", "nll"])


def test_the_verdict_names_who_is_combined_and_how_sure_the_gain_is(selected):
    pair, gain = Ensemble("weighted", ["a", "b"], [0.5, 0.5], [1.0, 1.0]), {"value": 0.02, "low": 0.01, "high": 0.03}
    sure = replace(selected, chosen="weighted", best="a", fitted={"weighted": pair}, gain=gain)
    expected = "weighted of a, b: +2.00 points [+1.00, +3.00] on val over the best single teacher, a: a gain"
    assert selection.verdict(sure) == expected
    unsure = replace(sure, gain=gain | {"low": -0.01})
    assert selection.verdict(unsure).endswith("no gain that is beyond chance")


@pytest.mark.parametrize("method", ["weighted", "greedy"])
def test_a_bad_member_costs_next_to_nothing(method):
    logits, labels = members_and_labels(samples=4000)
    bad = np.random.default_rng(9).normal(0, 3, logits[2].shape)  # as sure as the others, and hardly better than chance
    bad[np.arange(4000), labels] += 0.5
    settings = SETTINGS.model_copy(update={"methods": [method]})
    without = selection.select(dict(zip("ab", logits[:2], strict=True)), labels, settings, LATENCY, seed=0)
    spoilt = selection.select({"a": logits[0], "b": logits[1], "c": bad}, labels, settings, LATENCY, seed=0)
    accuracy = [metrics.correct(selected.held_out[method], labels).mean() for selected in (without, spoilt)]
    assert accuracy[1] > accuracy[0] - 0.001
    simple = [metrics.correct(selected.held_out["simple"], labels).mean() for selected in (without, spoilt)]
    assert simple[1] < simple[0] - 0.01 and spoilt.contribution["c"]["nll"] < 0


def test_a_subset_takes_what_its_members_take_one_after_the_other():
    times = subsets.sums({"a": 1.0, "b": 2.0, "c": 0.5})
    assert times == {"a": 1, "b": 2, "c": 0.5, "a+b": 3, "a+c": 1.5, "b+c": 2.5, "a+b+c": 3.5}
