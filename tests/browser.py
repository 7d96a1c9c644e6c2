"""A real Chromium without a window, driven by its own driver."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webdriver import WebDriver

NAMES = ("google-chrome", "chromium", "chromium-browser")  # the first is what a driver beside it was made for
CHROMIUM, DRIVER = next(filter(None, map(shutil.which, NAMES)), None), shutil.which("chromedriver")
SWITCHES = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)


@contextmanager
def browsing(width: int = 1600, height: int = 1000) -> Iterator[WebDriver]:
    """A browser with an empty profile. Skips the test where there is none, unless REQUIRE_BROWSER is set."""
    if not (CHROMIUM and DRIVER):
        says = "no chromium and chromedriver here; `make browser` installs them on Debian"
        pytest.fail(says) if os.environ.get("REQUIRE_BROWSER") else pytest.skip(says)
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for switch in (*SWITCHES, f"--window-size={width},{height}", f"--user-data-dir={profile}"):
            options.add_argument(switch)
        driver = webdriver.Chrome(options, Service(DRIVER))
        try:
            yield driver
        finally:
            driver.quit()


def console_errors(driver: WebDriver) -> list[str]:
    """What the console calls an error, but for two of MLflow's own.

    It asks for a user's name, which has no answer here; and a page that is laid out late on a busy machine says so.
    """
    own = ("/users/current", "ResizeObserver loop")
    errors = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    return [message for message in errors if not any(words in message for words in own)]
