"""How every stage begins: its record, the params, and inputs that are what other stages wrote."""

from pipeline import dvc_files, inputs, params, tracking
from pipeline.params import Params
from pipeline.tracking import Record


def begin(stage: str, item: str = "") -> tuple[Record, Params]:
    record, settings = tracking.begin(stage, item), params.load()
    inputs.check(stage, item, settings.model_dump())
    dvc_files.keep()
    return record, settings
