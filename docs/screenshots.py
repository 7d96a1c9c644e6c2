"""Photograph MLflow's UI into this folder: `python -m docs.screenshots`, while `make ui` runs."""

import json
import time
from pathlib import Path

from pipeline import params
from pipeline.project import errors
from pipeline.tracking import server, store, summary
from tests.browser import browsing

SETTLED = 12  # seconds until a page has drawn its charts
FOLDER = Path(__file__).parent
HIDE_PATHS = """for (const shown of document.querySelectorAll('*'))
  if (shown.childElementCount < 2 && shown.textContent.startsWith('Path:')) shown.style.visibility = 'hidden'"""


def main() -> None:
    tracking = params.load().tracking
    versions = summary.address(tracking)
    site = versions.split("/#/")[0]
    with server.answering("Runs could not be read from"):
        client = server.connect()
        runs = store.finished(client, tracking.experiment, "publish")[:2]
        student = store.finished(client, store.stages_experiment(tracking), "distill")[0].info
    shown, experiment = [run.info.run_id for run in runs], runs[0].info.experiment_id
    compared = f"runs={json.dumps(shown)}&experiments={json.dumps([experiment])}"
    pages = {
        "versions": versions,
        "compare": f"{site}/#/compare-runs?{compared}",
        "version": f"{site}/#/experiments/{experiment}/runs/{shown[0]}",
        "report": f"{site}/#/experiments/{experiment}/runs/{shown[0]}/artifacts/report.html",
        "curves": f"{site}/#/experiments/{student.experiment_id}/runs/{student.run_id}/model-metrics",
    }
    with browsing(width=2000, height=1000) as driver:
        for name, address in pages.items():
            driver.get("about:blank")
            driver.get(address)
            time.sleep(SETTLED)
            driver.execute_script(HIDE_PATHS)
            driver.save_screenshot(str(FOLDER / f"{name}.png"))
            print(f"{name}: {address}", flush=True)


if __name__ == "__main__":
    errors.run(main)
