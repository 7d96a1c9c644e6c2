"""What is in these images? `python -m pipeline.deployment.predict IMAGE…` needs ONNX Runtime, not torch.

A folder stands for all images below it. `--model FILE` takes another ONNX file than the one that was chosen to ship,
`--csv FILE` writes a table instead of lines.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.deployment import latency
from pipeline.images import decoding
from pipeline.project import errors, paths
from pipeline.project.errors import PipelineError
from pipeline.scoring import metrics

BATCH = 64  # images decoded and asked about at once


class Predictor:
    """An exported model with all that it knows of its input: size, channels, class names."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.session = latency.session(path, threads)
        try:
            self.classes = json.loads(self.session.get_modelmeta().custom_metadata_map["classes"])
            _, self.size, _, channels = self.session.get_inputs()[0].shape
            self.mode = {1: "L", 3: "RGB"}[channels]
        except (KeyError, ValueError):
            raise PipelineError(f"{path} was not exported by this pipeline: it names no classes or no image.") from None

    def log_probs(self, images: np.ndarray) -> np.ndarray:
        """(samples, classes) float64. images: (samples, size, size, channels) uint8."""
        return metrics.log_softmax(self.session.run(None, {"images": images})[0])

    def predict(self, files: list[Path]) -> Iterator[tuple[Path, str, float] | PipelineError]:
        """Each file's class and its probability, or why it could not be read, in order."""
        for start in range(0, len(files), BATCH):
            answers: dict[Path, PipelineError | np.ndarray] = {}
            for path in files[start : start + BATCH]:
                try:
                    answers[path] = decoding.decode(path, self.size, self.mode)
                except PipelineError as error:
                    answers[path] = error
            read = {path: image for path, image in answers.items() if isinstance(image, np.ndarray)}
            rows = dict(zip(read, self.log_probs(np.stack(list(read.values()))), strict=True)) if read else {}
            for path, answer in answers.items():
                if path in rows:
                    best = int(rows[path].argmax())
                    yield path, self.classes[best], float(np.exp(rows[path][best]))
                else:
                    yield answer


def main(*words: str) -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.deployment.predict", description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="an image, or a folder of images")
    parser.add_argument("--model", type=Path, default=paths.DEPLOYED, help="an ONNX file (default: %(default)s)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="where to write path, class and probability")
    options = parser.parse_args(words)
    predictor, files = Predictor(options.model), _files(options.images)
    bar = tqdm(predictor.predict(files), total=len(files), unit="image", leave=False,
               disable=None if len(files) > BATCH else True)  # fmt: skip
    rows, refused = [], 0
    for answer in bar:
        if isinstance(answer, PipelineError):
            refused += 1
            tqdm.write(f"error: {answer}", file=sys.stderr)
        elif options.csv:
            rows.append(answer)
        else:
            tqdm.write("{}  {}  {:.3f}".format(*answer))
    if options.csv:
        _write(options.csv, rows)
    if refused:
        raise PipelineError(f"{refused} of {len(files)} images could not be read.")


def _files(named: list[Path]) -> list[Path]:
    files: list[Path] = []
    for path in named:
        found = decoding.image_files(path) if path.is_dir() else [path]
        if not found:
            raise PipelineError(f"{path} has no images.")
        files += found
    return list(dict.fromkeys(files))


def _write(path: Path, rows: list[tuple[Path, str, float]]) -> None:
    from pipeline.project import files

    with files.replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "class", "probability"))
        writer.writerows((str(name), label, f"{probability:.6f}") for name, label, probability in rows)


if __name__ == "__main__":
    errors.run(main)
