"""The models that the tables here are about, which stay as they are when those of params.yaml change.

The student is so small and brief that one takes seconds, for questions that ask for dozens of them.
"""

from typing import Any

from pipeline import params
from pipeline.params import Architecture, Model, Params, Teacher, Training

EPOCHS, SEEDS = 5, (0, 1, 2)
STUDENT = {
    "model": "test_resnet",
    "kwargs": {"channels": [16, 32, 64, 96]},
    "stem_stride": None,
    "epochs": EPOCHS,
    "lr": 0.018,  # what suits it taught
}
DEFAULTS = params.read(params.DEFAULTS)["teacher"]


def teacher(**changes: Any) -> Teacher:
    """A teacher, what it leaves open as in pipeline/defaults.yaml."""
    return Teacher(**DEFAULTS | changes)


def architecture(**changes: Any) -> Architecture:
    return Architecture(**{key: DEFAULTS[key] for key in Architecture.model_fields} | changes)


def training(**changes: Any) -> Training:
    return Training(**{key: DEFAULTS[key] for key in Training.model_fields if key in DEFAULTS} | changes)


def student(settings: Params, **changes: Any) -> Model:
    """The fixed student, what it leaves open as in params.yaml."""
    return settings.student.model_copy(update=STUDENT | changes)


_TRAINING = {"stem_stride": 1, "batch_size": 128, "weight_decay": 0.05}
_RESNET = {**_TRAINING, "precision": "auto", "epochs": 6, "lr": 0.003}
TEACHERS = {
    "wide_resnet": teacher(model="test_resnet", kwargs={"channels": [48, 96, 192, 288]}, **_RESNET),
    "resnet": teacher(model="resnet10t", kwargs={"channels": [48, 96, 192, 384]}, **_RESNET),
    "efficientnet": teacher(model="test_efficientnet", precision="fp32", epochs=2, lr=0.005, **_TRAINING),
}
