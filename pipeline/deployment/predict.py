"""What is in these images? `python -m pipeline.deployment.predict IMAGE…` needs ONNX Runtime, not torch.

A folder stands for all images below it. `--model FILE` takes another ONNX file than the one that was chosen to ship,
`--csv FILE` writes a table instead of lines.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.deployment.service import Predictor
from pipeline.images import decoding
from pipeline.project import errors, files, paths
from pipeline.project.errors import PipelineError

BATCH = 64  # images asked about at once
PROJECT = Path(__file__).parents[2]
DECODED = 4  # images that a thread decodes in one go


def predict(predictor: Predictor, images: list[Path]) -> Iterator[tuple[Path, str, float] | PipelineError]:
    """Each file's class and its probability, or why it could not be read, in order."""
    decoded = decoding.each(lambda at: predictor.decode(images[at]), len(images), DECODED)
    for start in range(0, len(images), BATCH):
        batch = list(islice(decoded, BATCH))
        pixels = [image for image in batch if isinstance(image, np.ndarray)]
        rows = iter(np.exp(predictor.log_probs(np.stack(pixels))) if pixels else ())
        for path, image in zip(images[start : start + BATCH], batch, strict=True):
            if isinstance(image, PipelineError):
                yield image
            else:
                probabilities = next(rows)
                best = int(probabilities.argmax())
                yield path, predictor.classes[best], float(probabilities[best])


def main(*words: str) -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.deployment.predict", description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="an image, or a folder of images")
    parser.add_argument(
        "--model", type=Path, default=PROJECT / paths.DEPLOYED, help="an ONNX file (default: %(default)s)"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="where to write path, class and probability")
    options = parser.parse_args(words)
    predictor, images = Predictor(options.model), _images(options.images)
    bar = tqdm(predict(predictor, images), total=len(images), unit="image", leave=False,
               disable=None if len(images) > BATCH else True)  # fmt: skip
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
        raise PipelineError(f"{refused} of {len(images)} images could not be read.")


def _images(named: list[Path]) -> list[Path]:
    images: list[Path] = []
    for path in named:
        inside = decoding.files_below(path) if path.is_dir() else [path]
        if not inside:
            raise PipelineError(f"{path} holds no file.")
        images += inside
    return list(dict.fromkeys(images))


def _write(path: Path, rows: list[tuple[Path, str, float]]) -> None:
    with files.atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "class", "probability"))
        writer.writerows((str(name), label, f"{probability:.6f}") for name, label, probability in rows)


if __name__ == "__main__":
    errors.run(main)
