"""MLflow, and the tags that tie a run to DVC and git. The only module that imports mlflow.

A stage writes a record of its run as an output of its own, then sends it. What could not be sent is sent by `publish`:
the record's id is a tag of the run, so nothing is sent twice.
"""

import os
import subprocess
import sys
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from filelock import FileLock

from pipeline import files
from pipeline.errors import PipelineError
from pipeline.params import Block, Tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

CODE = ["pipeline", "stages", "params.yaml", "dvc.yaml", "requirements.txt"]
METRICS_A_BATCH, PARAMS_A_BATCH = 1000, 100  # MLflow's limits
LONGEST_PARAM = 6000  # characters, MLflow's limit


@dataclass
class Record:
    """Everything that one execution of a stage logs. Times are milliseconds since 1970, as MLflow has them."""

    stage: str
    item: str = ""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: int = field(default_factory=lambda: _now())
    ended: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    artifacts: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.stage}@{self.item}" if self.item else self.stage


class Summary(NamedTuple):
    """A summary run; its address is empty where MLflow has no server."""

    name: str
    id: str
    address: str


def log(
    record: Record,
    path: Path,
    tracking: Tracking,
    *,
    params: dict[str, Any] | None = None,
    metrics: dict[str, float] | None = None,
    curve: list[dict[str, float]] | None = None,
    artifacts: list[Path] | None = None,
) -> None:
    """End the record, write it to `path`, and send it. Call it when every other output is on disk.

    Args:
        params: nested values or blocks of params.yaml; they are logged under dotted names.
        curve: a row an epoch, with its `epoch`.
    Raises:
        PipelineError: it could not be sent and `tracking.strict` is set.
    """
    record.ended = _now()
    record.tags = _lineage()
    record.params = flatten(params or {})
    record.metrics = {name: float(value) for name, value in (metrics or {}).items()}
    record.curve = curve or []
    record.artifacts = [str(artifact) for artifact in artifacts or []]
    files.write_json(path, asdict(record))
    try:
        send(record, f"{tracking.experiment}-stages", connect())
    except Exception as error:  # whatever goes wrong in a tracking server must not cost a result
        reason = f"{record.name} could not be logged to MLflow: {_first_line(error)}"
        if tracking.strict:
            raise PipelineError(f"{reason} (`tracking.strict` is true).") from None
        print(f"warning: {reason}; its record is kept in {path}, and `publish` sends it later.", file=sys.stderr)


def log_summary(
    record: Record,
    tracking: Tracking,
    records: list[Path],
    *,
    params: dict[str, Any],
    metrics: dict[str, float],
    artifacts: list[Path],
    description: str,
) -> str:
    """Send every stage's record that has not arrived yet, then the summary run with links to their runs; its id.

    Raises:
        PipelineError: MLflow can't be reached; there is nothing else that this could do.
    """
    stages = [read(path) for path in records]
    record.ended, record.params = _now(), flatten(params)
    record.metrics, record.artifacts = metrics, [str(path) for path in artifacts]
    try:
        client = connect()
        runs = {stage.name: send(stage, f"{tracking.experiment}-stages", client) for stage in stages}
        links = {f"stage.{name}": run for name, run in runs.items()}
        record.tags = {**_lineage(), **links, "mlflow.note.content": description}
        return send(record, tracking.experiment, client)
    except Exception as error:
        raise PipelineError(
            f"The summary could not be logged to MLflow: {_first_line(error)}. "
            "Every result is on disk; `dvc repro publish` tries again."
        ) from None


def read(path: Path) -> Record:
    try:
        return Record(**files.read_json(path))
    except TypeError:
        raise PipelineError(f"{path} is no record of a run; delete it and run `dvc repro`.") from None


def send(record: Record, experiment: str, client: "MlflowClient") -> str:
    """The id of the run that holds this record; it is created unless it is there already, whole."""
    from mlflow.entities import Metric, Param, RunTag

    with FileLock(_project_root() / ".mlflow.lock"):  # two processes that create one SQLite file break it
        experiment_id = _experiment_id(client, experiment)
        for run in client.search_runs([experiment_id], f"tags.record = '{record.id}'"):
            if run.info.status == "FINISHED":
                return run.info.run_id
            client.delete_run(run.info.run_id)  # cut off while it was sent
        tags = {"record": record.id, "stage": record.stage, "item": record.item, **record.tags}
        run = client.create_run(experiment_id, record.started, tags, record.name)
    run_id = run.info.run_id
    metrics = [Metric(name, value, record.ended, 0) for name, value in record.metrics.items()]
    for row in record.curve:
        step = int(row["epoch"])
        metrics += [
            Metric(f"epoch/{name}", value, record.ended, step) for name, value in row.items() if name != "epoch"
        ]
    params = [Param(name, value) for name, value in record.params.items()]
    for start in range(0, len(metrics), METRICS_A_BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + METRICS_A_BATCH])
    for start in range(0, len(params), PARAMS_A_BATCH):
        client.log_batch(run_id, params=params[start : start + PARAMS_A_BATCH])
    for artifact in record.artifacts:
        if Path(artifact).exists():
            client.log_artifact(run_id, artifact)
        else:
            client.log_batch(run_id, tags=[RunTag("artifact_missing", artifact)])
    client.set_terminated(run_id, "FINISHED", record.ended)
    return run_id


def past(tracking: Tracking, stage: str) -> list[tuple[dict[str, str], dict[str, float]]]:
    """The params and metrics of every finished run of a stage, the newest first; of equal params only the newest.

    Raises:
        PipelineError: MLflow can't be reached.
    """
    try:
        client = connect()
        experiment = client.get_experiment_by_name(f"{tracking.experiment}-stages")
        chosen, token, runs = f"tags.stage = '{stage}' and attributes.status = 'FINISHED'", "", []
        while experiment and token is not None:
            page = client.search_runs([experiment.experiment_id], chosen, page_token=token or None)
            token, runs = page.token or None, [*runs, *page]
    except Exception as error:
        raise PipelineError(f"MLflow could not be asked for earlier runs: {_first_line(error)}.") from None
    distinct = {tuple(sorted(run.data.params.items())): run for run in reversed(runs)}
    return [(run.data.params, run.data.metrics) for run in reversed(distinct.values())]


def newest_summary(tracking: Tracking) -> Summary | None:
    """The newest finished summary run, if there is one.

    Raises:
        PipelineError: MLflow can't be reached.
    """
    finished, newest = "attributes.status = 'FINISHED'", ["attributes.start_time DESC"]
    try:
        client = connect()
        experiment = client.get_experiment_by_name(tracking.experiment)
        found = (
            client.search_runs([experiment.experiment_id], finished, max_results=1, order_by=newest)
            if experiment
            else []
        )
    except Exception as error:
        raise PipelineError(f"MLflow could not be asked for the summary run: {_first_line(error)}.") from None
    return Summary(found[0].info.run_name, found[0].info.run_id, _address(found[0])) if found else None


def _address(run: "Run") -> str:
    server = urlsplit(uri())
    if server.scheme not in ("http", "https"):
        return ""
    shown = server._replace(netloc=server.netloc.rpartition("@")[2])  # without a password
    return f"{shown.geturl().rstrip('/')}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings and blocks to dotted names and strings, as MLflow's params want them."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        value = value.model_dump() if isinstance(value, Block) else value
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)[:LONGEST_PARAM]
    return flat


def by_metric(split: str, rows: dict[str, dict[str, float]]) -> dict[str, float]:
    """{row: {metric: value}} to {"split_metric/row": value}: the UI groups what stands before the slash."""
    return {f"{split}_{metric}/{name}": value for name, row in rows.items() for metric, value in row.items()}


def uri() -> str:
    """MLFLOW_TRACKING_URI, or SQLite in the project."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_project_root() / 'mlflow.db'}"


def connect() -> "MlflowClient":
    """A client of the store that `uri` names, one that gives up on a dead server after seconds and not minutes."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # a dead server blocks for minutes otherwise
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import logging

    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow import MlflowClient

    return MlflowClient(uri())


def _experiment_id(client: "MlflowClient", name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found:
        return found.experiment_id
    local = uri().startswith("sqlite:")
    return client.create_experiment(name, str(_project_root() / "mlartifacts") if local else None)


def _project_root() -> Path:
    """The user's checkout, also for an experiment that DVC runs in a copy below `.dvc/tmp/exps`."""
    here = Path.cwd()
    for parent in here.parents:
        if parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return parent.parents[2]
    return here


def _lineage() -> dict[str, str]:
    tags = {
        "mlflow.source.git.commit": _git("rev-parse", "HEAD"),
        "git.dirty": str(bool(_git("status", "--porcelain", "--", *CODE))).lower(),
        "dvc.stage": os.environ.get("DVC_STAGE", ""),
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
    }
    return {name: value for name, value in tags.items() if value}


def _git(*words: str) -> str:
    try:
        answer = subprocess.run(["git", *words], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _now() -> int:
    return int(time.time() * 1000)
