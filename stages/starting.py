"""How every stage begins: its run, the params, and inputs that are what other stages wrote."""

import gc

from pipeline import params
from pipeline.params import Params
from pipeline.project import inputs
from pipeline.tracking import store
from pipeline.tracking.store import Record
from stages import dvc_files

COLLECTED_EVERY = 20_000  # objects: Python's 700 cost an export a tenth of its time, and free nothing that is large


def start_stage(stage: str, item: str = "") -> tuple[Record, Params]:
    """The record of this execution, and the params."""
    gc.freeze()  # what is imported stays, and no collection walks it
    gc.set_threshold(COLLECTED_EVERY)
    gc.enable()
    record, settings = store.begin(stage, item), params.load()
    inputs.check(stage)
    dvc_files.keep()
    return record, settings
