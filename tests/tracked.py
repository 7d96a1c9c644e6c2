"""A run as a stage logs it, into the SQLite of a scratch project; `python -m tests.tracked` is such a stage."""

from pathlib import Path

from pipeline import params
from pipeline.params import Tracking
from pipeline.project import errors
from pipeline.tracking import server, store
from pipeline.tracking.store import Record

DEAD = "http://127.0.0.1:9"  # the discard port: nothing listens there


def log(project: Path, name="distill", strict=False, experiment="e") -> Record:
    artifact = project / "curve.csv"
    if not artifact.exists():
        artifact.write_text("epoch,loss\n1,0.5\n")
    record = Record(name, "single-0")
    store.log(
        record,
        project / f"runs/{name}.json",
        Tracking(experiment=experiment, strict=strict),
        params={"distill": {"alpha": 0.5, "temperature": 2.0}},
        metrics={"val_accuracy": 0.9},
        curve=[{"epoch": 1, "train_loss": 0.5}, {"epoch": 2, "train_loss": 0.25}],
        artifacts=[artifact],
    )
    return record


def runs(experiment="e-stages"):
    client = server.connect()
    return client, client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def main() -> None:
    settings = params.load().tracking
    log(Path.cwd(), strict=settings.strict, experiment=settings.experiment)


if __name__ == "__main__":
    errors.run(main)
