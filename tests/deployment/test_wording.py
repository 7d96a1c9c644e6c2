import pytest

from pipeline.deployment import wording


@pytest.mark.parametrize(
    ("kind", "method", "title"),
    [
        ("teacher", "single", "teacher single"),
        ("ensemble", "weighted", "weighted mean"),
        ("student", "baseline", "student alone"),
        ("student", "single", "student from the single teacher"),
        ("student", "from_resnet_1", "student from resnet_1"),
        ("int8", "resnet_int8", "teacher resnet, INT8"),
        ("int8", "baseline_int8", "student alone, INT8"),
        ("int8", "from_resnet_int8", "student from resnet, INT8"),
    ],
)
def test_a_title_says_what_kind_of_method_it_is(kind, method, title):
    assert wording.title(kind, method) == title


def test_no_p_value_is_said_to_be_0():
    gain = {"value": 0.01, "low": 0.009, "high": 0.011}
    assert wording.gain_over_seeds({**gain, "p": 0.0213}) == "+1.00 [+0.90, +1.10], p = 0.021"
    assert wording.gain_over_seeds({**gain, "p": 0.0004}) == "+1.00 [+0.90, +1.10], p < 0.001"
