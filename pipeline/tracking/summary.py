"""The summary run of MLflow: one row is one version of the pipeline, complete even where DVC skipped most stages.

`python -m pipeline.tracking.summary` prints the address at which MLflow's UI compares versions.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pipeline import params
from pipeline.params import Tracking
from pipeline.project import errors, files, machine
from pipeline.project.errors import PipelineError
from pipeline.tracking import store, versions
from pipeline.tracking.store import Record

SHARED = "versions"  # the view of the summary runs that has the columns people ask for
LOCAL = "http://127.0.0.1:5000"  # where `make ui` listens


def log(
    record: Record,
    settings: Tracking,
    records: list[Path],
    *,
    params: dict[str, Any],
    metrics: dict[str, float],
    data: dict[str, str],
    artifacts: list[Path],
    description: str,
) -> str:
    """Send every stage's record that has not arrived yet, then the summary run with links to their runs; its id.

    Raises:
        PipelineError: MLflow can't be reached; it refuses or hangs; there is nothing else that this could do.
    """
    stages = [store.read(path) for path in records]
    record.tags = store.lineage() | machine.surroundings()
    record.ended, record.params, record.metrics, record.data = store.now(), store.flatten(params), metrics, data
    record.curve = [
        {"epoch": row["epoch"]} | {f"{key}/{stage.stage}-{stage.item}": row[key] for key in row if key != "epoch"}
        for stage in stages
        for row in stage.curve
    ]
    record.artifacts = [str(path) for path in artifacts]
    record.id = _identity(record)
    try:
        client = store.promptly(store.connect)
        of_stages, runs = store.of_stages(settings), {}
        for stage in stages:
            runs[stage.name] = store.promptly(store.send, stage, of_stages, client)
        return store.promptly(_send, record, settings, runs, description, client)
    except Exception as error:
        raise PipelineError(
            f"The summary could not be logged to MLflow: {store.first_line(error)}. "
            "Every result is on disk; `dvc repro publish` tries again."
        ) from None


def _identity(record: Record) -> str:
    """The same for what says the same of this checkout: a summary that is published again is still one version."""
    digests = [files.sha256(Path(path)) for path in record.artifacts if Path(path).exists()]
    said = [store.checkout(), record.tags, record.params, record.metrics, record.curve, record.data, digests]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def _send(
    record: Record, settings: Tracking, runs: dict[str, str], description: str, client: "store.MlflowClient"
) -> str:
    of_versions = store.experiment_id(client, settings.experiment)
    of_stages = store.experiment_id(client, store.of_stages(settings))
    earlier = [run.data.params for run in store.finished(client, of_versions, record.stage)]
    record.tags |= {f"stage.{name}": run for name, run in runs.items()}
    record.tags["mlflow.note.content"] = versions.description(description, runs, of_stages)
    commit = record.tags.get("mlflow.source.git.commit", "")
    record.title = versions.name(earlier[0] if earlier else None, record.params, commit)
    # what belongs to the list comes first: once the run is there, nothing may fail that would make it again
    view = versions.shared_view([record.params, *earlier])
    client.set_experiment_tag(of_versions, f"mlflow.sharedViewState.{SHARED}", view)
    client.set_experiment_tag(of_versions, "mlflow.note.content", versions.welcome(_path(of_versions)))
    return store.send(record, settings.experiment, client)


class Version(NamedTuple):
    """A summary run; its address is empty where MLflow has no server."""

    name: str
    id: str
    address: str


def newest(settings: Tracking) -> Version | None:
    """The newest finished summary run, if there is one.

    Raises:
        PipelineError: MLflow can't be reached.
    """
    runs = _finished(settings.experiment, "publish")
    if not runs:
        return None
    info = runs[0].info
    address = f"{_server()}/#/experiments/{info.experiment_id}/runs/{info.run_id}" if _server() else ""
    return Version(info.run_name, info.run_id, address)


def address(settings: Tracking) -> str:
    """Where MLflow's UI shows one row a version, with the columns that people ask for first.

    Raises:
        PipelineError: MLflow can't be reached, or has no version yet.
    """
    try:
        experiment = store.promptly(lambda: store.connect().get_experiment_by_name(settings.experiment))
    except Exception as error:
        raise PipelineError(f"MLflow could not be asked for the versions: {store.first_line(error)}.") from None
    if experiment is None:
        raise PipelineError(f"MLflow has no experiment {settings.experiment} yet; `dvc repro` makes it.")
    return f"{_server() or LOCAL}/{_path(experiment.experiment_id)}"


def _server() -> str:
    """The address of MLflow's server without a password in it; nothing where there is none."""
    server = urlsplit(store.uri())
    if server.scheme not in ("http", "https"):
        return ""
    return server._replace(netloc=server.netloc.rpartition("@")[2]).geturl().rstrip("/")


def _path(experiment: str) -> str:
    return f"#/experiments/{experiment}/runs?viewStateShareKey={SHARED}"


def past(settings: Tracking, stage: str) -> list[tuple[dict[str, str], dict[str, float]]]:
    """The params and metrics of every finished run of a stage, the newest first; of equal params only the newest.

    Raises:
        PipelineError: MLflow can't be reached.
    """
    runs = _finished(store.of_stages(settings), stage)
    distinct = {tuple(sorted(run.data.params.items())): run for run in reversed(runs)}
    return [(run.data.params, run.data.metrics) for run in reversed(distinct.values())]


def _finished(experiment: str, stage: str) -> "list[store.Run]":
    """The finished runs of a stage, the newest first; none where there is no such experiment yet."""

    def ask() -> "list[store.Run]":
        client = store.connect()
        found = client.get_experiment_by_name(experiment)
        return store.finished(client, found.experiment_id, stage) if found else []

    try:
        return store.promptly(ask)
    except Exception as error:
        raise PipelineError(f"MLflow could not be asked for earlier runs: {store.first_line(error)}.") from None


if __name__ == "__main__":
    errors.run(lambda: print(address(params.load().tracking)))
