"""Where measured tables go: on the terminal, into `results.json`, and into their place in `README.md`."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pipeline.deployment import wording
from pipeline.project import files
from pipeline.project.machine import processor
from pipeline.scoring import statistics

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results.json", HERE / "README.md"


@dataclass(frozen=True)
class Figure:
    """One number that must be at most, or at least, its limit."""

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def ok(self) -> bool:
        return bool(self.value >= self.limit if self.at_least else self.value <= self.limit)


def publish(section: str, table: pd.DataFrame, figures: list[Figure], page: Path | None = None) -> None:
    """Print a table and its figures, and put them in place of those measured last, on that page or on README.md."""
    limits = pd.DataFrame(
        [
            {
                "figure": figure.name,
                "measured": f"{figure.value:.3g}",
                "must be": f"{'>=' if figure.at_least else '<='} {figure.limit:.3g}",
                "": "ok" if figure.ok else "falls short",
            }
            for figure in figures
        ]
    )
    text = "\n\n".join(part.to_markdown(index=False) for part in (table, limits) if len(part))
    text += f"\n\nMeasured on {machine()}."
    print(f"\n{text}\n", flush=True)
    results = files.read_json(RESULTS) if RESULTS.exists() else {}
    results |= {
        figure.name: {"value": float(figure.value), "limit": float(figure.limit), "ok": figure.ok} for figure in figures
    }
    files.write_json(RESULTS, dict(sorted(results.items())))
    page = page or PAGE
    text_of_page = page.read_text(encoding="utf-8")
    place = re.compile(rf"(<!-- {section} -->\n).*?(<!-- /{section} -->)", re.DOTALL)
    files.write_text(page, place.sub(lambda found: f"{found[1]}{text}\n{found[2]}", text_of_page))


def difference(points: np.ndarray, seed: int = 0) -> str:
    """The mean of (samples,) paired differences, in points, with its 95 % bootstrap interval."""
    low, high = statistics.bootstrap_interval(points, 10_000, seed)
    return f"{points.mean():+.2f} [{low:+.2f}, {high:+.2f}]"


def p_over_seeds(differences: np.ndarray) -> str:
    """The p-value of (seeds,) paired differences; nothing of a single seed."""
    found = statistics.paired_over_seeds(differences)
    return wording.p_value(found["p"]).removeprefix("p = ") if found else ""


def machine() -> str:
    """Processor, threads and versions, in a few words."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{processor()}, {torch.get_num_threads()} threads{gpu}, torch {torch.__version__.split('+')[0]}"
