"""The champion behind MLflow's own server, asked over HTTP."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from pipeline import data, latency, registry, tracking

PATIENCE = 90  # seconds that the server may take to start


@pytest.fixture(scope="module")
def server(digits):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["mlflow", "models", "serve", "-m", "models:/fashion@champion", "--env-manager", "local", "-p", str(port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{digits}/mlflow.db", "PATH": path}
    with (digits / "server.log").open("w") as log:
        process = subprocess.Popen(words, cwd=digits, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}/ping", process, digits / "server.log")
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _wait(url: str, process: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")


def ask(url: str, payload: dict) -> dict:
    request = urllib.request.Request(url, json.dumps(payload).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_a_real_image_gets_the_answer_of_the_champion(server, digits, tmp_path, monkeypatch):
    images = np.array(data.open_split(digits / "data/prepared", "test").images[:3])
    answer = ask(server, {"inputs": {"images": images.tolist()}})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{digits}/mlflow.db")
    client = tracking.connect()
    champion = registry.holder(client, "fashion", registry.CHAMPION)
    expected = latency.onnx_logits(registry.download(client, "fashion", champion, tmp_path), images)
    np.testing.assert_allclose(answer["predictions"]["logits"], expected, rtol=1e-5, atol=1e-5)


def test_an_image_of_the_wrong_shape_is_refused(server):
    with pytest.raises(urllib.error.HTTPError, match="400"):
        ask(server, {"inputs": {"images": [[[[1, 2, 3]]]]}})
