"""What the methods and their gains are called in tables, figures and logs."""

from pipeline.params import STUDENT_ARMS

INT8 = "_int8"  # at the end of the name of a quantised method
TITLES = {
    "simple": "simple average",
    "mean_probs": "mean of probabilities",
    "mean_logits": "mean of logits",
    "vote": "majority vote",
    "weighted": "weighted mean",
    "greedy": "greedy selection",
    "stacking": "stacking",
    "baseline": "student alone",
    "single": "student from the single teacher",
    "ensemble": "student from the ensemble",
}


def title(kind: str, method: str) -> str:
    """What people read for a method of that kind: "teacher", "ensemble", "student" or "int8"."""
    if kind == "teacher":
        return f"teacher {method}"
    if kind == "int8":
        model = method.removesuffix(INT8)
        student = model in STUDENT_ARMS or model.startswith("from_")
        return f"{title('student' if student else 'teacher', model)}, INT8"
    return TITLES.get(method) or f"student from {method.removeprefix('from_')}"


def gain_over_seeds(gain: dict[str, float]) -> str:
    """Points of accuracy, their interval and p-value. gain: of pipeline.scoring.statistics.paired_over_seeds."""
    value, low, high = (100 * gain[key] for key in ("value", "low", "high"))
    return f"{value:+z.2f} [{low:+z.2f}, {high:+z.2f}], {p_value(gain['p'])}"


def p_value(p: float) -> str:
    """`p = 0.002` with three decimals, `p < 0.001` where they could not tell it from 0."""
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
