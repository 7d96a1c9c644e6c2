import numpy as np
import pytest

from pipeline.ensembles import diversity

LABELS = np.array([0, 0, 1, 1, 2, 2, 0, 1])


def predicted(*wrong):
    classes = LABELS.copy()
    classes[list(wrong)] = (classes[list(wrong)] + 1) % 3
    return classes


def pair(first, second):
    return diversity.pairwise({"a": first, "b": second}, LABELS).iloc[0]


def test_measures_by_hand():
    row = pair(predicted(0, 1), predicted(1, 2, 3))
    assert row["disagreement"] == pytest.approx(3 / 8)
    # both right on 4 samples, neither on 1, only the first on 2, only the second on 1
    assert row["q_statistic"] == pytest.approx((4 * 1 - 2 * 1) / (4 * 1 + 2 * 1))
    wrong = [predicted(0, 1) != LABELS, predicted(1, 2, 3) != LABELS]
    assert row["error_correlation"] == pytest.approx(np.corrcoef(*wrong)[0, 1])


def test_two_that_err_together_and_two_that_err_apart():
    assert pair(predicted(0, 1), predicted(0, 1))["q_statistic"] == 1
    assert pair(predicted(0, 1), predicted(2, 3))["q_statistic"] == -1


def test_two_wrong_answers_that_differ_disagree():
    other = predicted(0)
    other[0] = 2
    assert pair(predicted(0), other)["disagreement"] == pytest.approx(1 / 8)
    assert pair(predicted(0), other)["q_statistic"] == 1


def test_a_member_that_is_always_right_is_correlated_with_none():
    row = pair(predicted(), predicted(0, 1))
    assert (row["q_statistic"], row["error_correlation"]) == (0, 0)


def test_every_pair_has_a_row_and_one_member_has_none():
    members = {name: predicted(number) for number, name in enumerate("abcd")}
    table = diversity.pairwise(members, LABELS)
    assert len(table) == 6 and list(table["first"] + table["second"]) == ["ab", "ac", "ad", "bc", "bd", "cd"]
    assert diversity.pairwise({"a": predicted()}, LABELS).empty


def test_the_oracle_is_wrong_only_where_all_are():
    assert diversity.oracle_accuracy({"a": predicted(0, 1), "b": predicted(1, 2)}, LABELS) == pytest.approx(7 / 8)
    assert diversity.oracle_accuracy({"a": predicted(0, 1)}, LABELS) == pytest.approx(6 / 8)
