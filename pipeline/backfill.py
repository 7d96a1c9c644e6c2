"""Send every record in runs/ that has not arrived in MLflow: `python -m pipeline.backfill`, or `make backfill`."""

from pathlib import Path

from pipeline import errors, params, paths, tracking
from pipeline.errors import PipelineError
from pipeline.tracking import Record


def main() -> None:
    experiment = tracking.of_stages(params.load().tracking)
    records = [tracking.read(path) for path in sorted(Path().glob(paths.record("*").as_posix()))]
    sent = 0
    try:
        client = tracking.promptly(tracking.connect)
        for record in records:
            sent += tracking.promptly(_send, record, experiment, client)
    except Exception as error:
        raise PipelineError(
            f"MLflow did not take every record: {tracking.first_line(error)}. {sent} sent before that; "
            f"all {len(records)} are kept in runs/, and `make backfill` goes on from there."
        ) from None
    print(f"Of {len(records)} runs {sent} were sent and {len(records) - sent} were there already.")


def _send(record: Record, experiment: str, client: "tracking.MlflowClient") -> bool:
    """Whether it had to be sent."""
    if tracking.has_arrived(record, experiment, client):
        return False
    tracking.send(record, experiment, client)
    return True


if __name__ == "__main__":
    errors.run(main)
