"""Photograph MLflow's UI into this folder: `python -m docs.screenshots`, while `make ui` runs."""

import json
import time
from pathlib import Path

from pipeline import params
from pipeline.project import errors
from pipeline.tracking import store, summary
from tests.browser import browsing

SETTLED = 12  # seconds until a page has drawn its charts
FOLDER = Path(__file__).parent
HIDE_PATHS = """for (const shown of document.querySelectorAll('*'))
  if (shown.childElementCount < 2 && shown.textContent.startsWith('Path:')) shown.style.visibility = 'hidden'"""


def main() -> None:
    settings = params.load().tracking
    versions, client = summary.address(settings), store.connect()
    site = versions.split("/#/")[0]
    experiment = store.experiment_id(client, settings.experiment)
    runs = [run.info.run_id for run in store.finished(client, experiment, "publish")][:2]
    stages = store.experiment_id(client, store.of_stages(settings))
    student = store.finished(client, stages, "distill")[0].info.run_id
    compared = f"runs={json.dumps(runs)}&experiments={json.dumps([experiment])}"
    pages = {
        "versions": versions,
        "compare": f"{site}/#/compare-runs?{compared}",
        "version": f"{site}/#/experiments/{experiment}/runs/{runs[0]}",
        "report": f"{site}/#/experiments/{experiment}/runs/{runs[0]}/artifacts/report.html",
        "curves": f"{site}/#/experiments/{stages}/runs/{student}/model-metrics",
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
