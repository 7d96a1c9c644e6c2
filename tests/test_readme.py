import pandas as pd

from pipeline.reporting import report
from tests.conftest import CHECKOUT


def test_the_readme_shows_the_tables_of_the_committed_run():
    shown = (CHECKOUT / "README.md").read_text().split("<!-- benchmark -->")[1].split("<!-- /benchmark -->")[0]
    rows, pairs = (pd.read_csv(CHECKOUT / f"reports/{name}.csv") for name in ("benchmark", "pairs"))
    tables = [[line for line in text.splitlines() if line.startswith("|")]
              for text in (shown, report.markdown(report.comparison(rows, pairs, {}, 1, {})))]  # fmt: skip
    assert tables[0] == tables[1]
    assert "processor" in shown and "onnxruntime" in shown
