import json

import pandas as pd

from pipeline import report
from tests.conftest import CHECKOUT


def test_the_readme_shows_the_table_of_the_committed_run():
    readme = (CHECKOUT / "README.md").read_text()
    shown = readme.split("<!-- benchmark -->")[1].split("<!-- /benchmark -->")[0]
    samples = json.loads((CHECKOUT / "metrics/data.json").read_text())["test_samples"]
    rows, pairs = (pd.read_csv(CHECKOUT / f"reports/{name}.csv") for name in ("benchmark", "pairs"))
    by_seed = json.loads((CHECKOUT / "metrics/summary.json").read_text())["over_alone_by_seed"]
    tables, machine = shown.split("Measured on ")
    assert report.markdown(rows, pairs, by_seed, samples, {}).split("Measured on ")[0] == tables.lstrip("\n")
    assert "processor" in machine and "onnxruntime" in machine
