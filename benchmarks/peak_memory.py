"""Whether memory grows with the data: training and writing 4 GB of prepared images against 40 MB.

`python -m benchmarks.peak_memory`: some ten minutes on two cores and 8 GB where temporary files are (TMPDIR). Each is a
process of its own, whose anonymous memory, that is without mapped files, is read every few milliseconds.
"""

import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks import page, setting
from benchmarks.page import Figure
from pipeline.project import data, errors, files
from pipeline.project.data import Info, Split
from pipeline.training import models
from pipeline.training.loop import Lesson, Trainer

SIDE, CLASSES, CHUNK = 64, 10, 1000
SMALL, LARGE = 40 * 10**6, 4 * 10**9  # bytes
EPOCHS = {SMALL: 10, LARGE: 1}  # the peak comes with the first steps; many short epochs, so that it has the chance
INTERVAL = 0.005  # seconds
WORKS = ("train", "write")


def main(*words: str) -> None:
    if words:
        work, folder, epochs = words
        print(peak_of(work, Path(folder), int(epochs)))
        return
    peak = {}
    for size in (SMALL, LARGE):
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), size // (3 * SIDE**2))
            for work in WORKS:
                print(f"{work}, {size / 1e6:,.0f} MB", flush=True)
                command = [sys.executable, "-m", "benchmarks.peak_memory", work, folder, str(EPOCHS[size])]
                run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                peak[work, size] = float(run.stdout.splitlines()[-1])
    rows = [(work, *(f"{peak[work, size]:.0f} MB" for size in (SMALL, LARGE))) for work in WORKS]
    table = pd.DataFrame(rows, columns=["peak of anonymous memory", f"{SMALL / 1e6:,.0f} MB", f"{LARGE / 1e6:,.0f} MB"])
    page.publish("peak_memory", table, [
        Figure(f"{work}, peak memory with a hundred times the data", peak[work, LARGE] / peak[work, SMALL], 1.1)
        for work in WORKS
    ])  # fmt: skip


def write(folder: Path, samples: int) -> None:
    """Images of noise and their labels."""
    random = np.random.default_rng(0)

    def chunks() -> Iterator[np.ndarray]:
        for start in tqdm(range(0, samples, CHUNK), "writing images", leave=False, disable=None):
            yield random.integers(0, 256, (min(CHUNK, samples - start), SIDE, SIDE, 3), np.uint8)

    files.write_chunks(folder / "images.npy", (samples, SIDE, SIDE, 3), np.dtype(np.uint8), chunks())
    files.write_array(folder / "labels.npy", random.integers(0, CLASSES, samples))


def peak_of(work: str, folder: Path, epochs: int) -> float:
    """Megabytes of anonymous memory at most while this process trains on the folder's images, or writes them anew."""
    settings, device = setting.start()
    train = Split(files.open_array(folder / "images.npy"), files.open_array(folder / "labels.npy"))
    peak, done = [_anonymous()], threading.Event()

    def watch() -> None:
        while not done.wait(INTERVAL):
            peak[0] = max(peak[0], _anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        if work == "write":
            order = {"train": np.random.default_rng(0).permutation(len(train))}
            data.save(train.images, np.asarray(train.labels), [], order, folder / "again")
        else:
            info = Info([str(label) for label in range(CLASSES)], SIDE, [0.5] * 3, [0.3] * 3, {})
            model = models.build(settings.student, info)
            once = settings.student.model_copy(update={"epochs": epochs, "lr": 1e-4})
            val = Split(train.images[:128], train.labels[:128])
            lesson = Lesson(train, train.labelled, setting.views(settings), setting.loss_of(None))
            Trainer(model, once, lesson, device, seed=0, name=work).fit(val)
    finally:
        done.set()
        watcher.join()
    return peak[0] / 2**20


def _anonymous() -> int:
    """Bytes."""
    return 1024 * int(re.search(r"^RssAnon:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)[1])


if __name__ == "__main__":
    errors.run(main)
