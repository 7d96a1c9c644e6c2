"""What a service does with an exported model: from image files, or their bytes, to classes. Needs no torch."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.deployment import latency
from pipeline.images import decoding
from pipeline.project.errors import PipelineError
from pipeline.scoring import metrics

BATCH = 64  # images asked about at once
DECODED = 4  # images that a thread decodes in one go
PICTURE = (640, 480)  # pixels of what is sent to a service that is timed


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

    def predict(self, images: list[Path]) -> Iterator[tuple[Path, str, float] | PipelineError]:
        """Each file's class and its probability, or why it could not be read, in order."""
        decoded = decoding.each(lambda at: decoding.decode(images[at], self.size, self.mode), len(images), DECODED)
        for start in range(0, len(images), BATCH):
            batch = list(islice(decoded, BATCH))
            pixels = [image for image in batch if isinstance(image, np.ndarray)]
            rows = iter(np.exp(self.log_probs(np.stack(pixels))) if pixels else ())
            for path, image in zip(images[start : start + BATCH], batch, strict=True):
                if isinstance(image, PipelineError):
                    yield image
                else:
                    probabilities = next(rows)
                    best = int(probabilities.argmax())
                    yield path, self.classes[best], float(probabilities[best])


@dataclass(frozen=True)
class Service:
    """What is timed from a picture's bytes to its class: decoded, upright, cropped, resized, inferred, named.

    It is a pipeline.deployment.latency.Load that answers as many of this picture as there are images.
    """

    model: Path
    picture: bytes

    def __call__(self, threads: int) -> Callable[[np.ndarray], list[str]]:
        predictor = Predictor(self.model, threads)

        def run(images: np.ndarray) -> list[str]:
            pixels = [decoding.decode(io.BytesIO(self.picture), predictor.size, predictor.mode) for _ in images]
            return [predictor.classes[best] for best in predictor.log_probs(np.stack(pixels)).argmax(axis=1)]

        return run


def picture(image: np.ndarray) -> bytes:
    """A JPEG of PICTURE pixels that shows a (height, width, channels) uint8 image."""
    enlarged = Image.fromarray(image.squeeze(axis=2) if image.shape[2] == 1 else image).resize(PICTURE)
    enlarged.save(made := io.BytesIO(), "JPEG", quality=90)
    return made.getvalue()
