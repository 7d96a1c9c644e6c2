"""What every training stage leaves: weights, a curve, val's scores, and its record."""

from typing import Any

from pipeline import files, models, paths, tracking
from pipeline.models import Classifier
from pipeline.params import Tracking
from pipeline.tracking import Record
from pipeline.training import Trained


def save(
    name: str, model: Classifier, trained: Trained, record: Record, settings: Tracking, params: dict[str, Any]
) -> None:
    models.save(model, paths.weights(name))
    files.write_rows(paths.curve(name), trained.curve)
    scores = {**{f"val_{key}": value for key, value in trained.scores.items()}, "parameters": models.parameters(model)}
    files.write_json(paths.model_metrics(name), scores)
    tracking.log(
        record,
        paths.record(record.stage, record.item),
        settings,
        params=params,
        metrics={**scores, **{f"train_{key}": value for key, value in trained.cost.items()}},
        curve=trained.curve,
        artifacts=[paths.curve(name), paths.model_metrics(name)],
    )
