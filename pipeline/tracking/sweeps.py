"""What earlier runs say of alpha and temperature."""

import pandas as pd

VARIED = ("distill.alpha", "distill.temperature")


def comparable(runs: list[tuple[dict[str, str], dict[str, float]]], present: dict[str, str]) -> pd.DataFrame:
    """`alpha`, `temperature`, `arm` and val's `accuracy` of the runs that differ from `present` in the first two alone.

    Args:
        runs: params and metrics of `score_students`, as summary.past gives them; of equal ones the first counts.
        present: params of one.
    """
    rows = []
    for params, metrics in runs:
        if any(params.get(key) != present.get(key) for key in params.keys() | present.keys() if key not in VARIED):
            continue
        alpha, temperature = (float(params[key]) for key in VARIED)
        for name, value in metrics.items():
            if name.startswith("val_accuracy/"):
                rows.append({"alpha": alpha, "temperature": temperature, "arm": name.split("/")[1], "accuracy": value})
    table = pd.DataFrame(rows, columns=["alpha", "temperature", "arm", "accuracy"])
    return table.drop_duplicates(["alpha", "temperature", "arm"], ignore_index=True)
