"""MLflow, and the tags that tie a run to DVC and git. The only module that imports mlflow.

A stage writes a record of its run as an output of its own, then sends it. What could not be sent is sent by `publish`
or `make backfill`: the record's id is a tag of the run, so nothing is sent twice.
"""

import hashlib
import os
import platform
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from pipeline.params import Tracking, flatten
from pipeline.project import deadline, files, machine
from pipeline.project.deadline import Answer
from pipeline.project.errors import PipelineError
from pipeline.tracking import usage

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

CODE = ["pipeline", "stages", "params.yaml", "dvc.yaml", "requirements.txt"]
METRICS_A_BATCH, PARAMS_A_BATCH = 1000, 100  # MLflow's limits
LONGEST_DIGEST = 36  # characters, MLflow's limit
SAMPLED_EVERY = 10  # seconds
# Seconds for sending one run, however often and wherever the server hangs meanwhile; large models over a slow line
# want more.
DEADLINE = float(os.environ.get("TRACKING_SECONDS", 20))


@dataclass
class Record:
    """Everything that one execution of a stage logs. Times are milliseconds since 1970, as MLflow has them.

    curve: a row an epoch, with its `epoch`. usage: rows of pipeline.tracking.usage. data: each split's digest.
    """

    stage: str
    item: str = ""
    title: str = ""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: int = field(default_factory=lambda: now())
    ended: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    usage: list[dict[str, float]] = field(default_factory=list)
    data: dict[str, str] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.stage}@{self.item}" if self.item else self.stage


def begin(stage: str, item: str = "") -> Record:
    """The record of an execution that starts now, and whose use of the machine is watched from here on."""
    record = Record(stage, item)
    usage.watch(record.usage, SAMPLED_EVERY)
    return record


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
    record.ended = now()
    record.tags = lineage() | machine.surroundings()
    record.params = flatten(params or {})
    record.metrics = {name: float(value) for name, value in (metrics or {}).items()}
    record.curve = curve or []
    record.artifacts = [str(artifact) for artifact in artifacts or []]
    files.write_json(path, asdict(record))
    try:
        promptly(lambda: send(record, of_stages(tracking), connect()))
    except Exception as error:  # whatever goes wrong in a tracking server must not cost a result
        reason = f"{record.name} could not be logged to MLflow: {first_line(error)}"
        if tracking.strict:
            raise PipelineError(f"{reason} (`tracking.strict` is true).") from None
        later = f"its record is kept in {path}, and `publish` or `make backfill` sends it later"
        print(f"warning: {reason}; {later}.", file=sys.stderr)


def read(path: Path) -> Record:
    try:
        return Record(**files.read_json(path))
    except TypeError:
        raise PipelineError(f"{path} is no record of a run; delete it and run `dvc repro`.") from None


def send(record: Record, experiment: str, client: "MlflowClient") -> str:
    """The id of the run that holds this record; it is created unless it is there already, whole.

    Runs of the same stage that a killed process of this checkout has left RUNNING are ended as KILLED.
    """
    with _lock():
        folder = experiment_id(client, experiment)
        if arrived := _arrived(record, folder, client):
            return arrived
        # the lock is held while a run is RUNNING, so whoever of this checkout has left one is gone
        mine = f"tags.checkout = '{checkout()}' and attributes.status = 'RUNNING'"
        for run in client.search_runs([folder], f"tags.stage = '{record.stage}' and {mine}"):
            if run.data.tags.get("item", "") == record.item:
                client.set_terminated(run.info.run_id, "KILLED")
        tags = {"record": record.id, "stage": record.stage, "item": record.item, "checkout": checkout()}
        run_id = client.create_run(folder, record.started, tags | record.tags, record.title or record.name).info.run_id
        _fill(record, run_id, client)
        # a request whose answer was lost is sent again and may have created a second run
        for run in client.search_runs([folder], f"tags.record = '{record.id}' and {mine}"):
            if run.info.run_id != run_id:
                client.delete_run(run.info.run_id)
        client.set_terminated(run_id, "FINISHED", record.ended)
    return run_id


def has_arrived(record: Record, experiment: str, client: "MlflowClient") -> bool:
    with _lock():
        return _arrived(record, experiment_id(client, experiment), client) is not None


def _arrived(record: Record, folder: str, client: "MlflowClient") -> str | None:
    """The finished run that holds the record, if there is one; every other run that holds it is deleted."""
    runs = client.search_runs([folder], f"tags.record = '{record.id}'")
    whole = [run.info.run_id for run in runs if run.info.status == "FINISHED"][:1]
    for run in runs:
        if run.info.run_id not in whole:  # cut off while it was sent
            client.delete_run(run.info.run_id)
    return whole[0] if whole else None


def _fill(record: Record, run_id: str, client: "MlflowClient") -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

    metrics = [Metric(name, value, record.ended, 0) for name, value in record.metrics.items()]
    for row in record.curve:
        named = {f"epoch/{name}": value for name, value in row.items() if name != "epoch"}
        metrics += [Metric(name, value, record.ended, int(row["epoch"])) for name, value in named.items()]
    for step, row in enumerate(record.usage):
        named = {f"system/{name}": value for name, value in row.items() if name != "time"}
        metrics += [Metric(name, value, int(row["time"]), step) for name, value in named.items()]
    params = [Param(name, value) for name, value in record.params.items()]
    for start in range(0, len(metrics), METRICS_A_BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + METRICS_A_BATCH])
    for start in range(0, len(params), PARAMS_A_BATCH):
        client.log_batch(run_id, params=params[start : start + PARAMS_A_BATCH])
    if record.data:
        source = record.params.get("data.source", "")
        inputs = [
            DatasetInput(Dataset(f"{source} {split}", digest[:LONGEST_DIGEST], "local", source),
                         [InputTag("mlflow.data.context", split)])
            for split, digest in record.data.items()
        ]  # fmt: skip
        client.log_inputs(run_id, datasets=inputs)
    for artifact in record.artifacts:
        if Path(artifact).exists():
            client.log_artifact(run_id, artifact)
        else:
            client.log_batch(run_id, tags=[RunTag("artifact_missing", artifact)])


def finished(client: "MlflowClient", experiment: str, stage: str) -> "list[Run]":
    """Every finished run of a stage in the experiment of that id, the newest first."""
    chosen, token, runs = f"tags.stage = '{stage}' and attributes.status = 'FINISHED'", "", []
    while token is not None:
        page = client.search_runs([experiment], chosen, page_token=token or None)
        token, runs = page.token or None, [*runs, *page]
    return runs


def by_metric(split: str, rows: dict[str, dict[str, float]]) -> dict[str, float]:
    """{row: {metric: value}} to {"split_metric/row": value}: the UI groups what stands before the slash."""
    return {f"{split}_{metric}/{name}": value for name, row in rows.items() for metric, value in row.items()}


def of_stages(tracking: Tracking) -> str:
    """The experiment of the stages' runs, apart from the summary runs, which have the name itself."""
    return f"{tracking.experiment}-stages"


def uri() -> str:
    """MLFLOW_TRACKING_URI, or SQLite in the project."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_project_root() / 'mlflow.db'}"


def promptly(call: Callable[..., Answer], *arguments: Any) -> Answer:
    """What the call, which asks MLflow, returns or raises.

    Raises:
        TimeoutError: it took longer than DEADLINE.
    """
    _load()  # seconds of a busy machine, which are not the server's, and nor are those of a new SQLite file
    _create()
    return deadline.within(DEADLINE, call, *arguments)


def connect() -> "MlflowClient":
    """A client of the store that `uri` names, one that gives up on a dead server after seconds and not minutes."""
    _load()
    from mlflow import MlflowClient

    with _lock():
        return MlflowClient(uri())


def _load() -> None:
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # a dead server blocks for minutes otherwise
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import logging

    import mlflow  # noqa: F401

    for chatty in ("alembic", "mlflow.store.db.utils", "urllib3.connectionpool"):  # tracebacks of what is raised anyway
        logging.getLogger(chatty).setLevel(logging.CRITICAL)


def _create() -> None:
    """Make the SQLite file if it is not there, whole or not at all: MLflow never mends tables that were cut short."""
    path = Path(uri().removeprefix("sqlite:///"))
    if not uri().startswith("sqlite:///") or str(path).startswith("file:") or path.exists():
        return
    from mlflow import MlflowClient

    with _lock():
        if not path.exists():
            with files.replacing(path) as temporary:
                for left in path.parent.glob(f"{temporary.name}*"):  # by a killed process, with SQLite's journal
                    left.unlink()
                MlflowClient(f"sqlite:///{temporary}")


def experiment_id(client: "MlflowClient", name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found:
        return found.experiment_id
    local = uri().startswith("sqlite:")
    tags = {"mlflow.experimentKind": "custom_model_development"}  # opens the UI on training runs, not on traces
    return client.create_experiment(name, str(_project_root() / "mlartifacts") if local else None, tags)


def _lock() -> FileLock:
    """One process at a time: two that create one SQLite file break it, two of a checkout that send lose count."""
    local = uri().removeprefix("sqlite:///") if uri().startswith("sqlite:///") else _project_root() / ".mlflow"
    return FileLock(f"{local}.lock")


def checkout() -> str:
    """What tells this checkout from others that share the server, without showing its path."""
    return hashlib.sha256(f"{platform.node()}:{_project_root()}".encode()).hexdigest()[:12]


def _project_root() -> Path:
    """The user's checkout, also for an experiment that DVC runs in a copy below `.dvc/tmp/exps`."""
    here = Path.cwd()
    for parent in here.parents:
        if parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return parent.parents[2]
    return here


def lineage() -> dict[str, str]:
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


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def now() -> int:
    return int(time.time() * 1000)
