"""No credential of MLflow's address is ever shown or stored, whatever a server or its absence makes of it."""

import logging
import shutil
import sys

import mlflow
import pytest

from pipeline.deployment import export, latency
from pipeline.params import Tracking
from pipeline.project.errors import PipelineError
from pipeline.tracking import backfill, registry, server, summary
from pipeline.tracking.store import Record
from tests import toys
from tests.conftest import CHECKOUT, run
from tests.tracked import log

SECRETS = ("pa55word", "t0ken")
DEAD = (
    "https://me:pa55word@127.0.0.1:9",
    "https://pa55word@127.0.0.1:9/mlflow/",
    "http://127.0.0.1:9?api_key=t0ken&user=pa55word",
    "https://me:pa55word/pa55word@127.0.0.1:9",
    "https://me:pa55word pa55word@127.0.0.1:9",
    "https://me:pa55word@127.0.0.1:nine",
    "postgresql://me:pa55word@127.0.0.1:9/db?sslpassword=t0ken",
    "postgresql:me:pa55word@127.0.0.1/db",
    "mysql+pymysql://me:pa55word@127.0.0.1:9/db",
    "ftp://me:pa55word@127.0.0.1",
    "sqlite:////nowhere/mlflow.db?key=t0ken",
)
SETTINGS = Tracking(experiment="e", strict=False)
COMMANDS = {
    "log": lambda folder: log(folder),
    "log, strictly": lambda folder: log(folder, strict=True),
    "summary.log": lambda _: summary.log(Record("publish"), SETTINGS, ""),
    "summary.past": lambda _: summary.past(SETTINGS, "distill"),
    "summary": lambda _: summary.address(SETTINGS),
    "registry": lambda _: registry.main(),
    "registry rollback": lambda _: registry.main("rollback"),
    "backfill": lambda _: backfill.main(),
}


def shows_none(text: str) -> bool:
    return not any(secret in text for secret in SECRETS)


@pytest.mark.parametrize("address", [*DEAD[:2], *(pytest.param(each, marks=pytest.mark.long) for each in DEAD[2:])])
def test_no_warning_and_no_error_shows_a_secret(address, project, monkeypatch, capfd):
    shutil.copy(CHECKOUT / "params.yaml", project)
    log(project)  # so that there is a record to send
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for name, command in COMMANDS.items():
        capfd.readouterr()
        raised = ""
        try:
            command(project)
        except PipelineError as error:
            raised = str(error)
        shown = "".join(capfd.readouterr())
        assert (raised or "warning: " in shown) and shows_none(raised + shown), name


@pytest.mark.parametrize(
    "command",
    ["tests.tracked", "pipeline.tracking.backfill", "pipeline.tracking.summary", "pipeline.tracking.registry",
     "pipeline.tracking.registry rollback", "docs.screenshots"],
)  # fmt: skip
def test_no_command_shows_a_secret(command, project):
    shutil.copy(CHECKOUT / "params.yaml", project)
    log(project)  # so that there is a record to send
    uri = {"MLFLOW_TRACKING_URI": DEAD[0], "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "PYTHONPATH": str(CHECKOUT)}
    done = run(sys.executable, "-m", *command.split(), cwd=project, **uri)
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith(("warning: ", "error: ")) and "***@127.0.0.1:9" in sentence
    assert shows_none(done.stdout + done.stderr)


@pytest.fixture
def secret_address(address, project, monkeypatch):
    """Of a server that is there, with a user and a password."""
    uri = address.replace("//", "//me:pa55word@")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    yield uri
    mlflow.set_tracking_uri(None)  # registering sets it


def test_no_secret_is_stored_or_shown_by_a_server_that_answers(secret_address, project, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pa55word")
    shutil.copy(CHECKOUT / "params.yaml", project)
    log(project)
    run_id, client = summary.log(Record("publish"), SETTINGS, "table"), server.connect()
    export.to_onnx(toys.classifier(), project / "model.onnx")
    images = toys.images(2)
    example = {"images": images, "logits": latency.onnx_logits(project / "model.onnx", images)}
    number = registry.register(client, "fashion", project / "model.onnx", example, run_id, {"row": "student"})
    folder = registry.download("fashion", number, project / "download").parent
    for name in ("e", "e-stages"):
        experiment = client.get_experiment_by_name(name)
        assert shows_none(str(experiment.to_proto()))
        assert all(shows_none(str(each.to_dictionary())) for each in client.search_runs([experiment.experiment_id]))
        assert all(shows_none(str(each.to_dictionary()))
                   for each in client.search_logged_models([experiment.experiment_id]))  # fmt: skip
    assert shows_none(str(client.get_model_version("fashion", number)))
    registry.main()
    logging.getLogger("mlflow.tracking").error("no answer from %s", secret_address)  # as MLflow itself may say
    assert shows_none("".join(capfd.readouterr()))
    written = [path for path in (*folder.rglob("*"), *(project / "runs").rglob("*")) if path.is_file()]
    assert written and all(shows_none(path.read_bytes().decode(errors="ignore")) for path in written)


def test_addresses_of_pages_have_neither_user_nor_query(secret_address, project, monkeypatch):
    summary.log(Record("publish"), SETTINGS, "table")
    page = summary.address(SETTINGS)
    assert page.startswith("http://127.0.0.1:") and shows_none(page) and "@" not in page
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:pa55word@host:5000/mlflow/?api_key=t0ken")
    assert server.site() == "https://host:5000/mlflow"


@pytest.mark.parametrize(
    ("variable", "value"),
    [("MLFLOW_TRACKING_URI", "postgresql://me:pa%35%35word@host/db"), ("MLFLOW_TRACKING_TOKEN", "t0ken"),
     ("MLFLOW_REGISTRY_URI", "https://me:pa55word@host"), ("MLFLOW_TRACKING_PASSWORD", "pa55word")],
)  # fmt: skip
def test_a_secret_is_hidden_outside_of_an_address_too(variable, value, monkeypatch):
    monkeypatch.setenv(variable, value)
    hidden = server.masked('login "me" with pa55word failed' if "TOKEN" not in variable else "no such key: t0ken")
    assert shows_none(hidden) and "***" in hidden


def test_other_addresses_in_a_message_are_masked_and_the_rest_is_left():
    text = "PUT to https://me:pa55word@s3/bucket/file?X-Amz-Signature=t0ken&part=1 failed: disk full, ask me@home"
    assert server.masked(text) == (
        "PUT to https://***@s3/bucket/file?X-Amz-Signature=***&part=*** failed: disk full, ask me@home"
    )


def test_a_reason_is_one_line_of_bounded_length():
    assert server.reason(ValueError("first\nsecond")) == "first" and len(server.reason(ValueError("x" * 1000))) == 300
    assert server.reason(KeyError()) == "KeyError"
