from dataclasses import replace

import pytest

from pipeline.deployment.choice import Candidate, decide, decision, promote
from pipeline.params import Constraints, Deploy
from pipeline.project.errors import PipelineError


def candidate(name, kind, accuracy, p95_ms, size_mb=1.0, memory_mb=1.0, **more):
    return Candidate(name, kind, accuracy, more.pop("accuracy_of_file", accuracy), p95_ms, size_mb, memory_mb, **more)


BIG = candidate("big", "teacher", accuracy=0.94, p95_ms=2.0, size_mb=30, memory_mb=80)
SMALL = candidate("small", "teacher", accuracy=0.92, p95_ms=0.1, size_mb=2, memory_mb=9)
INT8 = candidate("int8", "int8", accuracy=0.918, p95_ms=0.05, size_mb=0.5, memory_mb=6)
WEAK = candidate("weak", "student", accuracy=0.90, p95_ms=0.04, size_mb=0.4, memory_mb=5, accuracy_of_file=0.907)
ALL = [BIG, SMALL, INT8, WEAK]


def deploy(tolerance=0.0, **constraints):
    free = {"p95_ms": None, "size_mb": None, "memory_mb": None, "accuracy": None}
    return Deploy(name="x", constraints=Constraints(**free | constraints), tolerance=tolerance, int8_max_loss=0.01)


@pytest.mark.parametrize(
    ("settings", "chosen"),
    [
        (deploy(), "big"),
        (deploy(p95_ms=1.0), "small"),
        (deploy(size_mb=2.0), "small"),  # a limit is kept by what equals it
        (deploy(size_mb=2.0, tolerance=0.003), "int8"),
        (deploy(size_mb=2.0, tolerance=0.003, accuracy=0.919), "small"),
        (deploy(memory_mb=5.5), "weak"),
        (deploy(tolerance=1.0), "weak"),
        (deploy(accuracy=0.915, size_mb=1), "int8"),
    ],
)
def test_the_fastest_within_tolerance_of_the_best_that_keeps_the_constraints(settings, chosen):
    assert decide(ALL, settings)[0].name == chosen
    assert decide(ALL[::-1], settings)[0].name == chosen


def test_every_candidate_hears_why():
    chosen, reasons = decide(ALL, deploy(p95_ms=1.0, tolerance=0.003))
    assert chosen.name == "int8" and list(reasons) == ["big", "small", "int8", "weak"]
    assert reasons["big"] == "p95_ms 2, more than 1"
    assert reasons["small"] == "slower: 0.100 ms"
    assert reasons["int8"].startswith("ships: 91.80 % on val")
    assert reasons["weak"] == "2.00 points below the best, more than the 0.3 allowed"


def test_the_decision_has_a_line_a_candidate():
    header, _, *lines = decision([SMALL, WEAK], {"small": "ships", "weak": "below the best"}).splitlines()
    assert [cell.strip() for cell in header.split("|")][2] == "accuracy on val %, mean over seeds"
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines] == [
        ["teacher small", "92.00", "92.00", "0.100", "2.00", "9.0", "ships"],
        ["student from weak", "90.00", "90.70", "0.040", "0.40", "5.0", "below the best"],
    ]


def test_constraints_that_nothing_keeps_are_refused_with_the_nearest_miss():
    with pytest.raises(PipelineError) as refused:
        decide(ALL, deploy(accuracy=0.93, size_mb=2.1, p95_ms=0.2))
    assert "the nearest is small: 92.00 % on val, less than 93.00." in str(refused.value)


def test_the_nearest_miss_names_every_constraint_that_it_breaks():
    with pytest.raises(PipelineError, match=r"the nearest is small: p95_ms 0.1, more than 0.09; 92.00 % on val"):
        decide([BIG, SMALL], deploy(accuracy=0.93, p95_ms=0.09))


def test_an_arm_is_judged_by_its_mean_and_not_by_its_luckiest_seed():
    lucky = candidate("lucky", "student", accuracy=0.90, p95_ms=0.1, accuracy_of_file=0.93)
    steady = candidate("steady", "student", accuracy=0.91, p95_ms=0.1, accuracy_of_file=0.912)
    assert decide([lucky, steady], deploy())[0] is steady
    assert decide([lucky, steady], deploy(accuracy=0.905))[1]["lucky"] == "90.00 % on val, less than 90.50"


def test_a_time_decides_only_beyond_the_spread_of_its_rounds():
    better = candidate("better", "student", accuracy=0.92, p95_ms=1.05, spread=0.1)
    quick = candidate("quick", "student", accuracy=0.918, p95_ms=1.0, spread=0.01)
    chosen, reasons = decide([better, quick], deploy(tolerance=0.003))
    assert chosen is better
    assert reasons["quick"] == "as fast within the spread of rounds, 0.20 points below what ships"
    assert decide([replace(better, spread=0.03), quick], deploy(tolerance=0.003))[0] is quick


def test_of_equals_the_simplest_ships():
    one = candidate("one", "teacher", accuracy=0.92, p95_ms=1.003, size_mb=2.0, spread=0.01)
    both = candidate("both", "ensemble", accuracy=0.92, p95_ms=1.0, size_mb=1.0, members=2, spread=0.01)
    smaller = candidate("smaller", "student", accuracy=0.92, p95_ms=1.002, size_mb=1.9, spread=0.01)
    chosen, reasons = decide([both, one], deploy())
    assert chosen is one and reasons["both"] == "as fast within the spread of rounds, as accurate and no simpler"
    assert decide([both, one, smaller], deploy())[0] is smaller


def test_int8_that_lost_too_much_never_ships_and_says_so():
    lost = replace(INT8, int8_loss=0.02)
    chosen, reasons = decide([WEAK, lost], deploy(tolerance=1.0))
    assert chosen is WEAK and reasons["int8"] == "INT8 lost 2.00 points against its fp32, more than the 1 allowed"
    assert decide([WEAK, replace(INT8, int8_loss=0.01)], deploy())[0].name == "int8"


@pytest.mark.parametrize(
    ("low", "high", "milliseconds", "takes"),
    [
        (0.001, 0.009, 3.0, True),  # better, though slower
        (-0.002, 0.006, 0.89, True),  # no worse and faster
        (-0.002, 0.006, 0.91, False),  # within what the champion's rounds differ by
        (-0.002, 0.006, 1.2, False),
        (-0.009, 0.006, 0.5, False),  # may be worse by more than is tolerated
        (-0.009, -0.001, 0.5, False),
    ],
)
def test_a_challenger_must_be_better_or_no_worse_and_faster(low, high, milliseconds, takes):
    difference = {"value": (low + high) / 2, "low": low, "high": high}
    took = {"challenger": {"p50_ms": milliseconds, "spread": 0.02}, "champion": {"p50_ms": 1.0, "spread": 0.1}}
    takes_it, why = promote(difference, took, tolerance=0.003)
    assert takes_it == takes and f"[{100 * low:+.2f}, {100 * high:+.2f}]" in why
