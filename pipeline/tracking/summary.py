"""The summary run of MLflow: one row is one version of the pipeline, complete even where DVC skipped most stages.

`python -m pipeline.tracking.summary` prints the address at which MLflow's UI compares versions.
"""

import hashlib
import json
from pathlib import Path

from pipeline import params
from pipeline.params import Tracking
from pipeline.project import errors, files
from pipeline.project.errors import PipelineError
from pipeline.tracking import server, store, versions
from pipeline.tracking.store import Record

LOCAL = "http://127.0.0.1:5000"  # where `make ui` listens


def log(record: Record, tracking: Tracking, description: str) -> str:
    """Send every stage's record that has not arrived yet, then the summary run with links to their runs; its id.

    Args:
        record: with the version's params, metrics, data and artifacts. description: Markdown.
    Raises:
        PipelineError: MLflow can't be reached; it refuses or hangs; there is nothing else that this could do.
    """
    stages = store.records()
    record.ended, record.tags = store.now(), store.surroundings()
    record.curve = [
        {"epoch": row["epoch"]} | {f"{key}/{stage.stage}-{stage.item}": row[key] for key in row if key != "epoch"}
        for stage in stages
        for row in stage.curve
    ]
    # the same for what says the same of this checkout: a summary that is published again is still one version
    digests = [files.sha256(Path(path)) for path in record.artifacts if Path(path).exists()]
    said = [server.checkout(), record.tags, record.params, record.metrics, record.curve, record.data, digests]
    record.id = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]
    advice = "Every result is on disk; `dvc repro publish` tries again."
    with server.answering("The summary could not be logged to", advice):
        sent = [run_id for run_id, _ in store.deliver(stages, tracking)]
        runs = {stage.name: run_id for stage, run_id in zip(stages, sent, strict=True)}
        return server.promptly(_send, record, tracking, runs, description)


def _send(record: Record, tracking: Tracking, runs: dict[str, str], description: str) -> str:
    client = server.connect()
    experiment = server.experiment_id(client, tracking.experiment)
    stages = server.experiment_id(client, store.stages_experiment(tracking))
    earlier = store.finished(client, tracking.experiment, record.stage)
    record.tags |= {f"stage.{name}": run for name, run in runs.items()}
    record.tags["mlflow.note.content"] = versions.description(description, runs, stages)
    commit = record.tags.get("mlflow.source.git.commit", "")
    record.title = versions.name(earlier[0].data.params if earlier else None, record.params, commit)
    # what belongs to the list comes first: once the run is there, nothing may fail that would make it again
    client.set_experiment_tag(experiment, "mlflow.note.content", versions.WELCOME)
    return store.send(record, tracking.experiment, client)[0]


def address(tracking: Tracking) -> str:
    """Where MLflow's UI shows one row a version. Raises PipelineError: it can't be reached, or has no version yet."""
    runs = _finished(tracking.experiment, "publish")
    if not runs:
        raise PipelineError(f"MLflow has no version of {tracking.experiment} yet; `dvc repro` makes it.")
    return f"{server.site() or LOCAL}/#/experiments/{runs[0].info.experiment_id}/runs"


def past(tracking: Tracking, stage: str) -> list[tuple[dict[str, str], dict[str, float]]]:
    """Params and metrics of a stage's newest thousand runs, the newest first. Raises PipelineError: no answer."""
    runs = _finished(store.stages_experiment(tracking), stage)
    return [(run.data.params, run.data.metrics) for run in runs]


def _finished(experiment: str, stage: str) -> "list[store.Run]":
    with server.answering("Earlier runs could not be read from"):
        return server.promptly(lambda: store.finished(server.connect(), experiment, stage))


if __name__ == "__main__":
    errors.run(lambda: print(address(params.load().tracking)))
