"""What a service does with an image: from the bytes of its file to a class. Imports no more than that needs."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.deployment import latency
from pipeline.images import decoding
from pipeline.images.decoding import Reading
from pipeline.project.errors import PipelineError
from pipeline.scoring import metrics

SENT = (500, 375)  # pixels, of most images of ImageNet
QUALITY = 90  # of the JPEG


class Predictor:
    """An exported model with all that it knows of its input: size, channels, class names."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.session = latency.session(path, threads)
        try:
            known = self.session.get_modelmeta().custom_metadata_map
            self.classes, background, bits = (json.loads(known[key]) for key in ("classes", "background", "bits"))
            _, size, _, channels = self.session.get_inputs()[0].shape
            self.reading = Reading(size, {1: "L", 3: "RGB"}[channels], background, bits)
        except (KeyError, ValueError):
            raise PipelineError(f"{path} was not exported by this pipeline: it names no classes or no image.") from None

    def log_probs(self, images: np.ndarray) -> np.ndarray:
        """(samples, classes) float64. images: (samples, size, size, channels) uint8."""
        return metrics.log_softmax(self.session.run(None, {"images": images})[0])

    def decode(self, image: Path | BytesIO) -> np.ndarray:
        """(size, size, channels) uint8: the pixels of an image file, as the model takes them."""
        return decoding.decode(image, self.reading).pixels


@dataclass(frozen=True)
class Service:
    """What is timed from end to end: decoding, resizing and answering an exported model's images, each sent anew."""

    path: Path
    encoded: bytes

    def __call__(self, threads: int) -> Callable[[np.ndarray], object]:
        predictor = Predictor(self.path, threads)

        def run(images: np.ndarray) -> object:
            pixels = [predictor.decode(BytesIO(self.encoded)) for _ in images]
            classes = predictor.log_probs(np.stack(pixels)).argmax(axis=1)
            return [predictor.classes[index] for index in classes]

        return run


def jpeg(image: np.ndarray) -> bytes:
    """An image (height, width, channels) uint8 as somebody would send it: a JPEG file of SENT pixels."""
    file = BytesIO()
    pixels = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    pixels.resize(SENT).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
