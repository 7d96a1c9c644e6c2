"""The record of a stage's run, and how it comes to MLflow.

A stage writes the record as an output of its own, then sends it. What could not be sent is sent by `publish` or
`make backfill`: the record's id is a tag of the run, so nothing is sent twice.
"""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.params import Tracking, flatten
from pipeline.project import files, machine, paths
from pipeline.project.errors import PipelineError
from pipeline.tracking import server, usage

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

CODE = ["pipeline", "stages", "params.yaml", "dvc.yaml", "requirements.txt"]
METRICS_A_BATCH, PARAMS_A_BATCH = 1000, 100  # MLflow's limits
LONGEST_DIGEST = 36  # characters, MLflow's limit
SAMPLED_EVERY = 10  # seconds


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
    Raises:
        PipelineError: it could not be sent and `tracking.strict` is set.
    """
    record.ended, record.tags, record.params = now(), surroundings(), flatten(params or {})
    record.metrics = {name: float(value) for name, value in (metrics or {}).items()}
    record.curve, record.artifacts = curve or [], [str(artifact) for artifact in artifacts or []]
    files.write_json(path, asdict(record))
    try:
        server.promptly(lambda: send(record, stages_experiment(tracking), server.connect()))
    except Exception as error:  # whatever goes wrong in a tracking server must not cost a result
        reason = f"{record.name} could not be logged to MLflow: {server.reason(error)}"
        if tracking.strict:
            raise PipelineError(f"{reason} (`tracking.strict` is true).") from None
        later = f"its record is kept in {path}, and `publish` or `make backfill` sends it later"
        print(f"warning: {reason}; {later}.", file=sys.stderr)


def read(path: Path) -> Record:
    """A record that `log` has written."""
    try:
        return Record(**files.read_json(path))
    except TypeError:
        raise PipelineError(f"{path} is no record of a run; delete it and run `dvc repro`.") from None


def records() -> list[Record]:
    """The record of every stage's last execution."""
    return [read(path) for path in sorted(paths.RUNS.rglob("*.json"))]


def deliver(records: list[Record], tracking: Tracking) -> Iterator[tuple[str, bool]]:
    """Send those that have not arrived yet, and yield what `send` says of each. Raises what MLflow raises."""
    client = server.promptly(server.connect)
    for record in records:
        yield server.promptly(send, record, stages_experiment(tracking), client)


def send(record: Record, experiment: str, client: "MlflowClient") -> tuple[str, bool]:
    """The id of the run that holds this record, whole, and whether it had to be sent.

    Runs of the same stage that a killed process of this checkout has left RUNNING are ended as KILLED.
    """
    with server.lock():
        folder, same = server.experiment_id(client, experiment), f"tags.record = '{record.id}'"
        copies = client.search_runs([folder], same)
        whole = [run.info.run_id for run in copies if run.info.status == "FINISHED"][:1]
        for run in copies:
            if run.info.run_id not in whole:  # cut off while it was sent
                client.delete_run(run.info.run_id)
        if whole:
            return whole[0], False
        # the lock is held while a run is RUNNING, so whoever of this checkout has left one is gone
        mine = f"tags.checkout = '{server.checkout()}' and attributes.status = 'RUNNING'"
        for run in client.search_runs([folder], f"tags.stage = '{record.stage}' and {mine}"):
            if run.data.tags.get("item", "") == record.item:
                client.set_terminated(run.info.run_id, "KILLED")
        tags = {"record": record.id, "stage": record.stage, "item": record.item, "checkout": server.checkout()}
        run_id = client.create_run(folder, record.started, tags | record.tags, record.title or record.name).info.run_id
        _fill(record, run_id, client)
        # a request whose answer was lost is sent again and may have created a second run
        for run in client.search_runs([folder], f"{same} and {mine}"):
            if run.info.run_id != run_id:
                client.delete_run(run.info.run_id)
        client.set_terminated(run_id, "FINISHED", record.ended)
    return run_id, True


def _fill(record: Record, run_id: str, client: "MlflowClient") -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

    metrics = [Metric(name, value, record.ended, 0) for name, value in record.metrics.items()]
    metrics += [Metric(f"epoch/{name}", value, record.ended, int(row["epoch"]))
                for row in record.curve for name, value in row.items() if name != "epoch"]  # fmt: skip
    metrics += [Metric(f"system/{name}", value, int(row["time"]), step)
                for step, row in enumerate(record.usage) for name, value in row.items() if name != "time"]  # fmt: skip
    params = [Param(name, value) for name, value in record.params.items()]
    for start in range(0, len(metrics), METRICS_A_BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + METRICS_A_BATCH])
    for start in range(0, len(params), PARAMS_A_BATCH):
        client.log_batch(run_id, params=params[start : start + PARAMS_A_BATCH])
    if record.data:
        source = record.params.get("data.source", "")
        sets = {split: Dataset(f"{source} {split}", digest[:LONGEST_DIGEST], "local", source)
                for split, digest in record.data.items()}  # fmt: skip
        inputs = [DatasetInput(data, [InputTag("mlflow.data.context", split)]) for split, data in sets.items()]
        client.log_inputs(run_id, datasets=inputs)
    for artifact in record.artifacts:
        if Path(artifact).exists():
            client.log_artifact(run_id, artifact)
        else:
            client.set_tag(run_id, "artifact_missing", artifact)


def finished(client: "MlflowClient", experiment: str, stage: str) -> "list[Run]":
    """The newest thousand finished runs of a stage, the newest first; none where there is no such experiment yet."""
    known = client.get_experiment_by_name(experiment)
    wanted = f"tags.stage = '{stage}' and attributes.status = 'FINISHED'"
    return client.search_runs([known.experiment_id], wanted) if known else []


def by_metric(split: str, rows: dict[str, dict[str, float | None]]) -> dict[str, float]:
    """{row: {metric: value}} to {"split_metric/row": value}, without None: the UI groups what is before the slash."""
    every = {f"{split}_{metric}/{name}": value for name, row in rows.items() for metric, value in row.items()}
    return {name: value for name, value in every.items() if value is not None}


def stages_experiment(tracking: Tracking) -> str:
    """The experiment of the stages' runs, apart from the summary runs, which have the name itself."""
    return f"{tracking.experiment}-stages"


def surroundings() -> dict[str, str]:
    """The tags that tie a run to git, to DVC, and to the machine and the versions that it ran on."""
    tags = {
        "mlflow.source.git.commit": _git("rev-parse", "HEAD"),
        "git.dirty": str(bool(_git("status", "--porcelain", "--", *CODE))).lower(),
        "dvc.stage": os.environ.get("DVC_STAGE", ""),
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
    }
    return {name: value for name, value in tags.items() if value} | machine.surroundings()


def _git(*words: str) -> str:
    try:
        answer = subprocess.run(["git", *words], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
