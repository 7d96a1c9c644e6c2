"""What people see of a finished pipeline in MLflow's UI: a real server, a real browser."""

import json

import pytest
from mlflow import MlflowClient
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser import browsing, console_errors
from tests.conftest import copy_digits, run, run_stage

pytestmark = pytest.mark.long

PATIENCE = 60  # seconds that a page may take to show what it is waited for


@pytest.fixture(scope="module")
def versions(address, digits, tmp_path_factory):
    """Two versions are published: the id of their experiment, and those of the summary runs, the newest first."""
    root = copy_digits(digits, tmp_path_factory.mktemp("versions") / "digits")
    params = root / "params.yaml"
    for alpha in ("0.4", "0.3"):
        params.write_text(params.read_text().replace("alpha: 0.4", f"alpha: {alpha}"))
        published = run_stage("publish", root, MLFLOW_TRACKING_URI=address)
        assert published.returncode == 0, published.stderr
    client = MlflowClient(address)
    experiment = client.get_experiment_by_name("distillation").experiment_id
    return experiment, [version.info.run_id for version in client.search_runs([experiment])]


@pytest.fixture(scope="module")
def driver():
    with browsing(width=2200) as driver:
        yield driver


def shows(driver, *texts):
    """Wait until the page has every text."""

    def has_all(driver):
        body = driver.find_element(By.TAG_NAME, "body").text
        return all(text in body for text in texts)

    WebDriverWait(driver, PATIENCE).until(has_all, f"the page never shows all of {texts}")


def test_a_server_holds_every_stages_run_once_and_both_versions(address, versions, digits):
    client = MlflowClient(address)
    sent = client.search_runs([client.get_experiment_by_name("distillation-stages").experiment_id])
    stages = {line.split()[0] for line in run("dvc", "stage", "list", cwd=digits).stdout.splitlines()}
    assert sorted(one.info.run_name for one in sent) == sorted(stages - {"publish"})
    assert len(versions[1]) == 2


def test_the_list_names_versions_by_what_changed(address, versions, driver):
    experiment, _ = versions
    driver.get(f"{address}/#/experiments/{experiment}/runs")
    shows(driver, "first version", "distill.alpha 0.4 -> 0.3")
    assert console_errors(driver) == []


def test_two_versions_compare_under_the_same_names(address, versions, driver):
    experiment, runs = versions
    driver.get(f"{address}/#/compare-runs?runs={json.dumps(runs)}&experiments={json.dumps([experiment])}")
    shows(driver, "Comparing 2 Runs", "first version", "distill.alpha 0.4 -> 0.3", "student_accuracy", "distill.alpha")
    assert console_errors(driver) == []


def test_a_versions_page_has_the_table_and_links_to_its_stages(address, versions, driver):
    experiment, (run_id, _) = versions
    driver.get(f"{address}/#/experiments/{experiment}/runs/{run_id}")
    shows(driver, "Description", "over best teacher", "student_accuracy")
    links = driver.execute_script("return [...document.querySelectorAll('a')].map(a => a.href)")
    assert any("/runs/" in link and f"/experiments/{experiment}/" not in link for link in links)
    assert console_errors(driver) == []


def test_the_report_opens_in_the_browser(address, versions, driver):
    experiment, (run_id, _) = versions
    driver.get(f"{address}/#/experiments/{experiment}/runs/{run_id}/artifacts/report.html")
    frame = WebDriverWait(driver, PATIENCE).until(lambda page: page.find_element(By.TAG_NAME, "iframe"))
    driver.switch_to.frame(frame)
    shows(driver, "student from the ensemble")
    driver.switch_to.default_content()
    assert console_errors(driver) == []
