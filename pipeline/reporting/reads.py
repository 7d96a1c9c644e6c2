"""How often test was read: the more often, the less a number on it is worth."""

from pathlib import Path

import pandas as pd

from pipeline.project import files

COLUMNS = ["test", "answers"]


def note(path: Path, test: str, answers: str) -> None:
    """Add a reading of test to the table at `path`, unless the same models' same answers were read there before.

    Args:
        test: the digest of the test images. answers: of what the models answered.
    """
    rows = _rows(path)
    if not ((rows["test"] == test) & (rows["answers"] == answers)).any():
        files.write_rows(path, [*rows.to_dict("records"), {"test": test, "answers": answers}])


def sentence(path: Path, test: str) -> str:
    """How often these test images were read, by the table at `path`."""
    count = int((_rows(path)["test"] == test).sum())
    return f"Test was read {count} time{'' if count == 1 else 's'}, by what {path} counts: every set of answers once."


def _rows(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str) if path.exists() else pd.DataFrame(columns=COLUMNS)
