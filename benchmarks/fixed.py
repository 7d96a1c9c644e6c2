"""The models that the tables here are about, which stay as they are when those of params.yaml change.

The student is so small and brief that one takes seconds, for questions that ask for dozens of them.
"""

from typing import Any

from pipeline.params import Params, Student, Teacher

EPOCHS, SEEDS = 5, (0, 1, 2)
STUDENT = {
    "model": "test_resnet",
    "kwargs": {"channels": [16, 32, 64, 96]},
    "stem_stride": None,
    "epochs": EPOCHS,
    "lr": 0.018,  # what suits it taught
}
_TRAINING = {"stem_stride": 1, "batch_size": 128, "weight_decay": 0.05}
_RESNET = {**_TRAINING, "precision": "auto", "epochs": 6, "lr": 0.003}
TEACHERS = {
    "wide_resnet": Teacher(model="test_resnet", kwargs={"channels": [48, 96, 192, 288]}, **_RESNET),
    "resnet": Teacher(model="resnet10t", kwargs={"channels": [48, 96, 192, 384]}, **_RESNET),
    "efficientnet": Teacher(model="test_efficientnet", precision="fp32", epochs=2, lr=0.005, **_TRAINING),
}


def student(settings: Params, **changes: Any) -> Student:
    """The fixed student, what it leaves open as in params.yaml."""
    return settings.student.model_copy(update=STUDENT | changes)
