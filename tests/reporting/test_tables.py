import numpy as np
import pandas as pd
import pytest

from pipeline.reporting import comparison, corruptions, tables
from tests.reporting.methods import COSTS, LABELS, METHODS

SERVED = {"row": "ensemble", "image": "JPEG of 500x375 pixels"} | COSTS["ensemble"]
SERVED |= {"p99_ms": 5.0, "p99_ms_low": 4.0, "load_ms": 70.0}
MEASURED = {"machine": {"processor": "abacus", "cores": "2"}, "largest_batch": 16, "end_to_end": SERVED}


@pytest.fixture(scope="module")
def rows():
    return comparison.table(METHODS, LABELS, COSTS, teacher="big", ensemble="simple")


@pytest.fixture(scope="module")
def text(rows):
    pairs, by_seed = comparison.pairs(METHODS, LABELS, 2000, seed=0), comparison.over_seeds(METHODS, LABELS)
    return tables.markdown(tables.comparison(rows, pairs, by_seed, len(LABELS), MEASURED))


def lines(text, method):
    """The cells of each table's line of that method, without its name."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return [rest for name, *rest in filter(None, cells) if name == method]


def test_markdown_has_a_line_a_method_in_each_table(text):
    for name in ("teacher big", "teacher small", "simple average", "student alone"):
        assert len(lines(text, name)) == 3
    assert "40 test images" in text and "2 seeds" in text and "processor abacus" in text
    assert "The simple average over the mean single teacher: +37.50 [" in text
    assert "(t-test over 2 seeds): student from the ensemble +37.50 [" in text


def test_markdown_shows_the_numbers_of_the_table(text):
    short, worth, cost = lines(text, "student alone")
    assert short == ["37.50", "-37.50", "16.000 ms", "0.2 x", "3.0 MB", "0.00 MB", "10.0 x", "4.0 min, 2.00 M"]
    assert worth[0].startswith("37.50 [") and worth[1:3] == ["50.00", "17.68"]
    assert worth[3].startswith("-37.50 [-") and worth[3].endswith("] *") and worth[4] == "+0.00 [+0.00, +0.00]"
    times = ["16.000 [1.000, 70.000]", "39.062 [2.000, 200.000]", "81.000 [2.000, ?]", "40"]
    assert cost == ["0.00 M", "2.0 M", *times, "5.062", "625.000", "100", "150", "7.0 MB", "10 ms", "1 %"]
    assert "of 16 images" in text
    assert lines(text, "teacher small")[2][-1] == "20 %, too unsteady to compare"


def test_what_a_service_takes_from_end_to_end_is_a_row_of_its_own(text):
    *_, served = lines(text, "student from the ensemble")
    assert served == ["32.000 [1.000, 70.000]", "97.656 [2.000, 200.000]", "243.000 [2.000, ?]", "5.000 [4.000, ?]",
                      "40", "70 ms"]  # fmt: skip
    assert "a JPEG of 500x375 pixels" in text


def test_what_a_method_has_not_is_an_empty_cell(text):
    assert lines(text, "teacher big")[1][1:3] == ["", ""]  # the seed that ships, and the spread over seeds of one
    assert lines(text, "simple average")[2][7] == ""  # the time in torch of several models
    assert lines(text, "simple average")[2][1] == ""  # a count that torch could not make


def test_multiply_adds_that_are_not_known_are_an_empty_cell(rows):
    counts = [None, *rows["multiply_adds"][1:]]
    assert tables.filled(tables.COST, rows.assign(multiply_adds=counts))["multiply-adds"][:2].tolist() == ["", "2.0 M"]


def test_a_method_may_be_called_nan(rows):
    renamed = rows.assign(method=["nan", *rows["method"][1:]])
    assert tables.filled(tables.SHORT, renamed)["method"][0] == "teacher nan"


def test_the_table_of_one_seed_says_so(rows):
    pairs = comparison.pairs(METHODS, LABELS, 100, seed=0)
    text = tables.markdown(tables.comparison(rows.assign(seeds=1), pairs, {}, 40, MEASURED))
    assert "the mean over 1 seed, of which" in text and "t-test" not in text and "| the file's" not in text


def test_balanced_accuracy_is_a_column_where_it_can_differ(rows):
    assert "balanced %" not in tables.filled(tables.WORTH, rows)
    unequal = tables.filled(tables.WORTH, rows.assign(balanced_accuracy=0.125))
    assert list(unequal)[3] == "balanced %" and unequal["balanced %"].tolist() == ["12.50"] * len(rows)


def test_the_corrupted_images_are_a_column_and_a_table_where_there_are_any(rows, text):
    assert "corruptions" not in text and "corrupted" not in text
    hits = {m.name: dict.fromkeys(("clean", *corruptions.SEVERITY), m.log_probs.argmax(axis=2) == LABELS)
            for m in METHODS}  # fmt: skip
    hits["ensemble"]["noise"] = np.zeros((2, 40), bool)
    joined = rows.join(comparison.under_corruptions(hits), on="method")
    pairs = comparison.pairs(METHODS, LABELS, 100, seed=0)
    sections = tables.comparison(joined, pairs, {}, 40, MEASURED)
    assert list(sections)[1:3] == ["Accuracy, gains, calibration", "Under corruptions"]
    assert "Accuracy on 40 of the test images" in sections["Under corruptions"][0]
    _, worth, corrupted, _ = lines(tables.markdown(sections), "teacher big")
    assert worth[2] == "75.00"
    assert corrupted[0] == "75.00" and corrupted[1].startswith("75.00 [58.80, 87.31]")
    assert corrupted[2].startswith("+37.50 [") and corrupted[3:] == ["75.00"] * 6
    taught = sections["Under corruptions"][1].set_index("method").loc["student from the ensemble"]
    assert taught[["noise", "jpeg"]].tolist() == ["0.00", "75.00"]
    assert taught["corrupted % [95 %]"].startswith("62.50 [")


def test_the_overview_has_the_best_teacher_the_ensemble_that_teaches_all_students_and_the_last_in_int8(rows):
    small = [rows[rows["method"] == name].assign(kind="int8", method=f"{name}_int8") for name in ("big", "ensemble")]
    shown = tables.overview(pd.concat([rows, *small]))
    assert shown["method"].tolist() == [
        "teacher big", "simple average", "student alone", "student from the ensemble", "student from the ensemble, INT8"
    ]  # fmt: skip
    assert list(shown) == ["method", "accuracy % [95 %]", "the file's %", "over student alone", "one image", "file"]


def test_the_gain_is_a_sentence_over_images_and_seeds_and_one_over_seeds_alone_where_there_are_seeds(rows):
    both, seeds = tables.over_alone(rows, comparison.over_seeds(METHODS, LABELS))
    gain = rows.set_index("method").loc["ensemble"]
    low, high = (100 * gain[f"gain_over_alone_{bound}"] for bound in ("low", "high"))
    assert both == ("Gain over the student alone, 95 % over test images and seeds: student from the ensemble +37.50 "
                    f"[{low:+.2f}, {high:+.2f}].")  # fmt: skip
    assert "Over seeds alone, on these images (t-test over 2 seeds): student from the ensemble +37.50 [" in seeds
    (alone,) = tables.over_alone(rows.assign(seeds=1), {})
    assert "95 % over test images, as there is one seed:" in alone


def test_a_gain_on_a_few_differing_images_is_marked(rows):
    few = rows.assign(gain_over_alone_differing=[0, 1, 9.5, 10, 0, 9])
    marks = [cell.count("]?") for cell in tables.filled(tables.WORTH, few)["over student alone"]]
    assert marks == [0, 1, 1, 0, 0, 1]


def test_a_certain_model_has_no_loss_and_not_minus_none(rows):
    assert tables.filled(tables.WORTH, rows.assign(nll=-1e-9))["NLL"][0] == "0.000"


def test_one_sentence_says_what_ships_and_what_that_is_worth(rows):
    sentence = tables.what_ships(rows, "ensemble", 40)
    assert sentence.startswith("What ships is the student from the ensemble: this file has 75.00 % [58.80, 87.31] of ")
    assert "40 test images right, the mean over its 2 seeds is 75.00 %, +37.50 [-" in sentence
    assert "one image in 32.000 ms, a file of 0.00 MB, 0.1 x faster and 20.0 x smaller than" in sentence
    assert "\n" not in sentence and sentence.count(". ") == 0 and sentence.endswith("the ensemble that teaches.")


def test_an_ensemble_that_ships_is_not_compared_with_itself(rows):
    assert tables.what_ships(rows, "simple", 40).endswith("a file of 0.01 MB.")
    assert "seeds is" not in tables.what_ships(rows, "simple", 40)


def test_the_table_by_class_begins_with_what_the_last_method_finds_hardest():
    shares = {"teacher": np.array([0.9, 0.8, 0.7, np.nan]), "student": np.array([0.6, 0.5, 0.987, np.nan])}
    table = tables.by_class(shares, np.array([1000, 20, 30, 0]), ["a", "b", "c", "none"], most=30)
    assert table.to_numpy().tolist() == [["b", "20", "80.0", "50.0"], ["a", "1,000", "90.0", "60.0"],
                                         ["c", "30", "70.0", "98.7"]]  # fmt: skip
    assert list(table) == ["class", "images", "teacher, %", "student, %"]


def test_the_table_by_class_is_cut_to_the_hardest():
    shares = {"student": np.linspace(1, 0, 1000)}
    table = tables.by_class(shares, np.ones(1000, int), [str(n) for n in range(1000)], most=30)
    assert table["class"].tolist() == [str(n) for n in range(999, 969, -1)]
