"""The peak memory of one piece of work in a process of its own: `python -m benchmarks.memory WORK FOLDER ROUNDS`.

WORK is `start` (imports and models alone), `cache` or `distill`; FOLDER holds `images.npy`, `labels.npy` and
`targets.npy`; ROUNDS is how often the work goes through all samples.
"""

import sys
from pathlib import Path

from benchmarks import setting
from pipeline.logits import caching
from pipeline.logits.caching import Labeller
from pipeline.project import machine
from pipeline.project.data import Split
from pipeline.project.files import open_array

BATCH = 250  # divides 10,000 and 60,000: batches of several sizes would keep scratch memory of each


def main(work: str, folder: Path, rounds: int) -> None:
    settings, device = setting.start()
    even = settings.student.model_copy(update={"batch_size": BATCH})
    settings = settings.model_copy(update={"student": even})
    member, student = setting.teachers(device)[0], setting.Stepper.of(settings, device)
    train = Split(open_array(folder / "images.npy"), open_array(folder / "labels.npy"))
    if work == "cache":
        views, labeller = setting.views(settings, rounds), Labeller([member], device, settings.seed)
        caching.cache(folder / "cached.npy", labeller, train, views, top_k=None, name="teacher")
    if work == "distill":
        student.train(train, epochs=rounds, taught_by=setting.taught(open_array(folder / "targets.npy"), settings))
    print(machine.peak_bytes() / 2**20)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
