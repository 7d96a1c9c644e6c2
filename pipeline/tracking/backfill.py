"""Send every record in runs/ that has not arrived in MLflow: `make backfill`."""

from pipeline import params
from pipeline.project import errors
from pipeline.project.errors import PipelineError
from pipeline.tracking import server, store


def main() -> None:
    tracking, records, sent = params.load().tracking, store.records(), 0
    try:
        for _, is_new in store.deliver(records, tracking):
            sent += is_new
    except Exception as error:
        raise PipelineError(
            f"MLflow did not take every record: {server.reason(error)}. {sent} sent before that; "
            f"all {len(records)} are kept in runs/, and `make backfill` goes on from there."
        ) from None
    print(f"Of {len(records)} runs {sent} were sent and {len(records) - sent} were there already.")


if __name__ == "__main__":
    errors.run(main)
