"""Send every record in runs/ that has not arrived in MLflow: `make backfill`."""

from pathlib import Path

from pipeline import params
from pipeline.project import errors, paths
from pipeline.project.errors import PipelineError
from pipeline.tracking import store
from pipeline.tracking.store import Record


def main() -> None:
    experiment = store.of_stages(params.load().tracking)
    records = [store.read(path) for path in sorted(Path().glob(paths.record("*").as_posix()))]
    sent = 0
    try:
        client = store.promptly(store.connect)
        for record in records:
            sent += store.promptly(_send, record, experiment, client)
    except Exception as error:
        raise PipelineError(
            f"MLflow did not take every record: {store.first_line(error)}. {sent} sent before that; "
            f"all {len(records)} are kept in runs/, and `make backfill` goes on from there."
        ) from None
    print(f"Of {len(records)} runs {sent} were sent and {len(records) - sent} were there already.")


def _send(record: Record, experiment: str, client: "store.MlflowClient") -> bool:
    """Whether it had to be sent."""
    if store.has_arrived(record, experiment, client):
        return False
    store.send(record, experiment, client)
    return True


if __name__ == "__main__":
    errors.run(main)
