"""The champion behind MLflow's own server, asked over HTTP."""

import json
import urllib.error
import urllib.request

import numpy as np
import pytest

from pipeline.deployment import latency
from pipeline.project import data
from pipeline.tracking import registry, server
from tests.servers import serving

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def address(digits, tmp_path_factory):
    words = ["mlflow", "models", "serve", "-m", "models:/fashion@champion", "--env-manager", "local", "-p"]
    folder, store = tmp_path_factory.mktemp("server"), f"sqlite:///{digits}/mlflow.db"
    with serving(words, "ping", folder, MLFLOW_TRACKING_URI=store) as server_address:
        yield f"{server_address}/invocations"


def ask(url: str, payload: dict) -> dict:
    request = urllib.request.Request(url, json.dumps(payload).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_a_real_image_gets_the_answer_of_the_champion(address, digits, tmp_path, monkeypatch):
    images = np.array(data.open_split(digits / "data/prepared", "test").images[:3])
    answer = ask(address, {"inputs": {"images": images.tolist()}})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{digits}/mlflow.db")
    champion = registry.holder(server.connect(), "fashion", registry.CHAMPION)
    expected = latency.onnx_logits(registry.download("fashion", champion, tmp_path), images)
    np.testing.assert_allclose(answer["predictions"]["logits"], expected, rtol=1e-5, atol=1e-5)


def test_an_image_of_the_wrong_shape_is_refused(address):
    with pytest.raises(urllib.error.HTTPError, match="400"):
        ask(address, {"inputs": {"images": [[[[1, 2, 3]]]]}})
