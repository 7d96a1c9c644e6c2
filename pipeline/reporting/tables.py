"""The comparison as people read it: tables whose cells are texts, and the sentences that explain them."""

from typing import Any

import numpy as np
import pandas as pd

from pipeline.deployment import wording
from pipeline.params import BASELINE
from pipeline.reporting import corruptions
from pipeline.reporting.comparison import MEAN_TEACHER

SIGNIFICANT = 0.05
FEW = 10  # images on which two rows differ, below which an interval of their difference means little
UNSTEADY = 0.1  # by which part the p50 of two rounds may differ
PERCENT = (
    r"^(((balanced_|shipped_)?accuracy|ece|ece_calibrated|spread|gain_over_(teacher|alone))(_low|_high|_std)?"
    r"|corrupted\w*)$"
)
MILLIONS = ["memory_bytes", "memory_bytes_largest_batch", "size_bytes", "train_images", "parameters", "multiply_adds"]
GAIN = "{{gain_over_{0}:+z.2f}} [{{gain_over_{0}_low:+z.2f}}, {{gain_over_{0}_high:+z.2f}}]{{{0}_few}}"
OF_FILE = "{of_file}"  # of the seed that ships; no column where each row has one seed
# The columns of each table: what a cell says of a row of pipeline.reporting.comparison.table, in these units.
SHORT = {
    "method": "{title}",
    "accuracy %": "{accuracy:.2f}",
    "over best teacher on val": "{gain_over_teacher:+z.2f}",
    "one image": "{p50_ms:.3f} ms",
    "faster": "{speed_up:.1f} x",
    "memory": "{memory_bytes:.1f} MB",
    "file": "{size_bytes:.2f} MB",
    "smaller": "{compression:.1f} x",
    "training": "{train_seconds:.1f} min, {train_images:.2f} M",
}
WORTH = {
    "method": "{title}",
    "accuracy % [95 %]": "{accuracy:.2f} [{accuracy_low:.2f}, {accuracy_high:.2f}]",
    "the file's %": OF_FILE,
    "balanced %": "{balanced_accuracy:.2f}",  # where classes are not equally frequent
    "corrupted %": "{corrupted:.2f}",  # unless `benchmark.corrupted` is 0
    "± seeds": "{accuracy_std:.2f}",
    "over best teacher on val": GAIN.format("teacher") + "{teacher_star}",
    "over student alone": GAIN.format("alone") + "{alone_star}",
    "NLL": "{nll:z.3f}",
    "ECE %": "{ece:.1f}",
    "NLL, calibrated": "{nll_calibrated:z.3f}",
    "ECE %, calibrated": "{ece_calibrated:.1f}",
}
CORRUPTED = {
    "method": "{title}",
    "clean %": "{corrupted_clean:.2f}",
    "corrupted % [95 %]": "{corrupted:.2f} [{corrupted_low:.2f}, {corrupted_high:.2f}]",
    "over student alone": "{corrupted_over_alone:+z.2f} [{corrupted_over_alone_low:+z.2f}, "
    "{corrupted_over_alone_high:+z.2f}]",
    **{name: f"{{corrupted_{name}:.2f}}" for name in corruptions.SEVERITY},
}
PERCENTILE = "{{p{0}_ms:.3f}} [{{p{0}_ms_low:.3f}}, {{p{0}_ms_high:.3f}}]"
COST = {
    "method": "{title}",
    "parameters": "{parameters:.2f} M",
    "multiply-adds": "{multiply_adds:.1f} M",
    **{f"p{percent} ms [95 %]": PERCENTILE.format(percent) for percent in (50, 90, 95, 99)},
    "calls": "{calls:,.0f}",
    "all cores": "{p50_ms_all_cores:.3f}",
    "torch": "{p50_ms_torch:.3f}",
    "images/s": "{images_per_second:,.0f}",
    "all cores, images/s": "{images_per_second_all_cores:,.0f}",
    "memory, largest batch": "{memory_bytes_largest_batch:.1f} MB",
    "load": "{load_ms:.0f} ms",
    "two rounds": "{spread:.0f} %{unsteady}",
}
SERVICE = {name: form for name, form in COST.items() if name in ("method", "calls", "load") or "[95 %]" in name}
OVERVIEW = {
    **{name: WORTH[name] for name in ("method", "accuracy % [95 %]", "the file's %", "over student alone")},
    **{name: SHORT[name] for name in ("one image", "file")},
}
SHIPS = (
    "What ships is the {title}: this file has {shipped_accuracy:.2f} % [{shipped_accuracy_low:.2f}, "
    "{shipped_accuracy_high:.2f}] of {samples:,} test images right{of_arm}, "
    f"{GAIN.format('alone')} points over the student alone, one image in {{p50_ms:.3f}} ms, a file of "
    "{size_bytes:.2f} MB"
)
OF_ARM = ", the mean over its {seeds} seeds is {accuracy:.2f} %"
OVER_ENSEMBLE = ", {speed_up:.1f} x faster and {compression:.1f} x smaller than the ensemble that teaches"


def comparison(
    rows: pd.DataFrame,
    pairs: pd.DataFrame,
    by_seed: dict[str, dict[str, float]],
    samples: int,
    measured: dict[str, Any],
) -> dict[str, list[str | pd.DataFrame]]:
    """The comparison in short, what each method is worth, and what it costs: heading to paragraphs and tables.

    Args:
        rows, pairs, by_seed: table, pairs and over_seeds of pipeline.reporting.comparison. samples: of test.
        measured: what `time_models` wrote.
    """
    return {
        "Comparison": [
            filled(SHORT, rows),
            f"Accuracy on {samples:,} test images, of students the mean over {_seeds(rows)}, of which the best on val "
            "ships; faster and smaller than the ensemble that teaches; memory beyond the bare runtime, of one image; "
            "training: wall time and images seen, with the teachers that teach and their answers to every view.",
        ],
        "Accuracy, gains, calibration": [
            f"Brackets: 95 % intervals over {_covered(rows)}, paired for gains; of one model's accuracy exact. "
            f"?: the two differ on fewer than {FEW} images, too few for an interval. The file's %: of the seed that "
            "ships, where several are trained. ± seeds: the spread over seeds. *: McNemar's exact test between the "
            f"models that ship, p < {SIGNIFICANT} after Holm's correction over all gains here. Calibrated: after a "
            "temperature fitted on val, which any model can have; what teaching adds to calibration is what is left.",
            filled(WORTH, rows),
            _over_mean_teacher(pairs),
            *over_alone(rows, by_seed),
        ],
        **_under_corruptions(rows),
        "Cost of running": [
            "One image at a time in ONNX Runtime on `benchmark.threads` and on all cores, and in eager torch; "
            "percentiles of so many calls, as if these were independent, p99 where ten calls are beyond it (?: too few "
            f"for that bound); throughput and memory at the largest batch, of {measured['largest_batch']} images; two "
            "rounds: by how much their p50 differ.",
            filled(COST, rows),
            f"End to end, as a service answers: the bytes of a {measured['end_to_end']['image']} are decoded, cropped, "
            "resized, inferred and named, on the same threads.",
            _served(measured["end_to_end"], rows),
            f"Measured on {', '.join(f'{key} {value}' for key, value in measured['machine'].items())}.",
        ],
    }


def markdown(sections: dict[str, list[str | pd.DataFrame]]) -> str:
    """The parts of `comparison` as Markdown, without the headings."""
    parts = [part for section in sections.values() for part in section]
    return "\n\n".join(part if isinstance(part, str) else pipes(part) for part in parts) + "\n"


def pipes(table: pd.DataFrame) -> str:
    """A table of texts as Markdown."""
    return table.to_markdown(index=False, disable_numparse=True)


def filled(columns: dict[str, str], rows: pd.DataFrame) -> pd.DataFrame:
    """One of the tables above: a row a method, its cells texts; a number that a row does not have is left out.

    Args:
        rows: of pipeline.reporting.comparison.table.
    """
    for name in {"balanced_accuracy", "corrupted"} - set(rows):
        columns = {title: form for title, form in columns.items() if f"{{{name}" not in form}
    if rows["seeds"].max() == 1:
        columns = {title: form for title, form in columns.items() if form != OF_FILE}
    return _cells(columns, _readable(rows))


def _cells(columns: dict[str, str], rows: list[dict[str, str | float]]) -> pd.DataFrame:
    table = pd.DataFrame({title: [form.format(**row) for row in rows] for title, form in columns.items()})
    table = table.replace(r"^nan( \w+| \[nan, nan\])?$", "", regex=True)
    table = table.replace(r"(?<=[\[ ])nan(?=[,\]])", "?", regex=True)
    return table.drop(columns=[title for title in table if title.startswith("p99") and not table[title].any()])


def _served(end_to_end: dict[str, Any], rows: pd.DataFrame) -> pd.DataFrame:
    kind = rows.set_index("method")["kind"][end_to_end["row"]]
    row = {name: float("nan") if value is None else value for name, value in end_to_end.items()}
    return _cells(SERVICE, [row | {"title": wording.title(kind, end_to_end["row"])}])


def overview(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that say most: the best teacher on val, the simple average, what teaches, students, the last in INT8.

    Args:
        rows: of pipeline.reporting.comparison.table.
    """
    kind, last = rows["kind"], rows.loc[rows["kind"] == "student", "method"].iloc[-1]
    best = (kind == "teacher") & (rows["gain_over_teacher_low"] == 0) & (rows["gain_over_teacher_high"] == 0)
    teaches = (kind == "ensemble") & (rows["compression"] == 1) & (rows["speed_up"] == 1)
    simple = rows["method"] == "simple"
    shown = best | simple | teaches | (kind == "student") | (rows["method"] == last + wording.INT8)
    return filled(OVERVIEW, rows[shown])


def over_alone(rows: pd.DataFrame, by_seed: dict[str, dict[str, float]]) -> list[str]:
    """What teaching gains, over images and seeds and over seeds alone, the one only where there are several.

    Arguments: of `comparison`.
    """
    taught = rows[(rows["kind"] == "student") & (rows["method"] != BASELINE)]
    both = [("{title} " + GAIN.format("alone")).format(**row) for row in _readable(taught)]
    lines = [f"Gain over the student alone, 95 % over {_covered(rows)}: {'; '.join(both)}."]
    gains = [f"{wording.title('student', arm)} {wording.gain_over_seeds(gain)}" for arm, gain in by_seed.items()]
    test = f"t-test over {_seeds(rows)}"
    return [*lines, *([f"Over seeds alone, on these images ({test}): {'; '.join(gains)}."] if gains else [])]


def what_ships(rows: pd.DataFrame, method: str, samples: int) -> str:
    """One sentence on the method that ships. rows: of pipeline.reporting.comparison.table. samples: of test."""
    row = _readable(rows[rows["method"] == method])[0]
    row["of_arm"] = OF_ARM.format(**row) if row["seeds"] > 1 else ""
    form = SHIPS if row["kind"] == "ensemble" else SHIPS + OVER_ENSEMBLE
    return form.format(samples=samples, **row) + "."


def by_class(shares: dict[str, np.ndarray], counts: np.ndarray, classes: list[str], most: int) -> pd.DataFrame:
    """Accuracy class by class, a column a method; first what the last method finds hardest, `most` classes at most.

    Args:
        shares: (classes,) accuracies by title. counts: (classes,) test images; a class of none is left out.
    """
    percent = 100 * pd.DataFrame(shares)[counts > 0]
    percent = percent.sort_values(percent.columns[-1], kind="stable").head(most)
    table = percent.map("{:.1f}".format).add_suffix(", %")
    table.insert(0, "class", [classes[index] for index in table.index])
    table.insert(1, "images", [f"{count:,}" for count in counts[table.index]])
    return table


def _readable(rows: pd.DataFrame) -> list[dict[str, str | float]]:
    """The rows in percent, megabytes, millions and minutes, with their titles and what marks a row."""
    rows = rows.astype(dict.fromkeys([*MILLIONS, *rows.filter(regex=r"^p\d+_ms")], float))
    rows["title"] = [wording.title(*each) for each in zip(rows["kind"], rows["method"], strict=True)]
    for other in ("teacher", "alone"):
        differing = rows[f"gain_over_{other}_differing"]
        rows[f"{other}_few"] = np.where((differing > 0) & (differing < FEW), "?", "")
        rows[f"{other}_star"] = np.where(rows[f"gain_over_{other}_p"] < SIGNIFICANT, " *", "")
    several = rows["seeds"] > 1
    rows["of_file"] = np.where(several, (100 * rows["shipped_accuracy"]).map("{:.2f}".format), "")
    rows["unsteady"] = np.where(rows["spread"] > UNSTEADY, ", too unsteady to compare", "")
    rows[rows.filter(regex=PERCENT).columns] *= 100
    rows[MILLIONS] /= 1e6
    rows["train_seconds"] /= 60
    return rows.to_dict("records")


def _under_corruptions(rows: pd.DataFrame) -> dict[str, list[str | pd.DataFrame]]:
    """The section of the corrupted test images, where there are any."""
    if "corrupted" not in rows:
        return {}
    return {
        "Under corruptions": [
            f"Accuracy on {rows['images_corrupted'][0]:,.0f} of the test images, as they are (clean) and under "
            f"{len(corruptions.SEVERITY)} corruptions of Hendrycks and Dietterich 2019 at severity 3; corrupted: the "
            f"mean over these. Brackets: 95 % intervals over {_covered(rows)}, paired for the gain.",
            filled(CORRUPTED, rows),
        ]
    }


def _over_mean_teacher(pairs: pd.DataFrame) -> str:
    row = pairs[(pairs["first"] == "simple") & (pairs["second"] == MEAN_TEACHER)].iloc[0]
    value, low, high = (100 * row[key] for key in ("difference", "low", "high"))
    return f"The simple average over the mean single teacher: {value:+.2f} [{low:+.2f}, {high:+.2f}] points."


def _covered(rows: pd.DataFrame) -> str:
    """What the intervals of the table cover."""
    return "test images and seeds" if rows["seeds"].max() > 1 else "test images, as there is one seed"


def _seeds(rows: pd.DataFrame) -> str:
    return f"{rows['seeds'].max()} seed{'s' if rows['seeds'].max() > 1 else ''}"
