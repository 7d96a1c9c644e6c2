import pytest

from pipeline.deployment.choice import Candidate, decide, decision, promote
from pipeline.params import Constraints, Deploy
from pipeline.project.errors import PipelineError

BIG = Candidate("big", "teacher", accuracy=0.94, p95_ms=2.0, size_mb=30, memory_mb=80)
SMALL = Candidate("small", "teacher", accuracy=0.92, p95_ms=0.1, size_mb=2, memory_mb=9)
INT8 = Candidate("int8", "int8", accuracy=0.918, p95_ms=0.05, size_mb=0.5, memory_mb=6)
WEAK = Candidate("weak", "student", accuracy=0.90, p95_ms=0.04, size_mb=0.4, memory_mb=5)
ALL = [BIG, SMALL, INT8, WEAK]


def deploy(tolerance=0.0, **constraints):
    free = {"p95_ms": None, "size_mb": None, "memory_mb": None, "accuracy": None}
    return Deploy(name="x", constraints=Constraints(**free | constraints), tolerance=tolerance)


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
    assert [cell.strip() for cell in header.split("|")][2] == "accuracy on val %"
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines] == [
        ["teacher small", "92.00", "0.100", "2.00", "9.0", "ships"],
        ["student from weak", "90.00", "0.040", "0.40", "5.0", "below the best"],
    ]


def test_constraints_that_nothing_keeps_are_refused_with_the_nearest_miss():
    with pytest.raises(PipelineError) as refused:
        decide(ALL, deploy(accuracy=0.93, size_mb=2.1, p95_ms=0.2))
    assert "the nearest is small: 92.00 % on val, less than 93.00." in str(refused.value)


def test_the_nearest_miss_names_every_constraint_that_it_breaks():
    with pytest.raises(PipelineError, match=r"the nearest is small: p95_ms 0.1, more than 0.09; 92.00 % on val"):
        decide([BIG, SMALL], deploy(accuracy=0.93, p95_ms=0.09))


@pytest.mark.parametrize(
    ("low", "high", "milliseconds", "takes"),
    [
        (0.001, 0.009, 3.0, True),  # better, though slower
        (-0.002, 0.006, 0.9, True),  # no worse and faster
        (-0.002, 0.006, 0.99, False),  # within what two measurements differ by
        (-0.002, 0.006, 1.2, False),
        (-0.009, 0.006, 0.5, False),  # may be worse by more than is tolerated
        (-0.009, -0.001, 0.5, False),
    ],
)
def test_a_challenger_must_be_better_or_no_worse_and_faster(low, high, milliseconds, takes):
    difference = {"value": (low + high) / 2, "low": low, "high": high}
    takes_it, why = promote(difference, milliseconds, 1.0, tolerance=0.003)
    assert takes_it == takes and f"[{100 * low:+.2f}, {100 * high:+.2f}]" in why
