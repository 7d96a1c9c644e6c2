"""Starting values for one's own images: what is known of them, to a params.yaml that a user reads and edits.

| what | value |
|---|---|
| models | small nets from scratch; on a GPU pretrained ones beyond 64 pixels or below 10,000 images |
| image_size | the median of the shorter sides; at most 64 without a GPU, 224 with one |
| stem_stride | 1 up to 40 pixels, else timm's 2 |
| epochs | as many images in all as params.yaml's models see, which the learning rates are made for |
| views | shift and flip; from 96 pixels on the preset photo, of images stored an eighth larger than seen |
| batch_size | 128, for few images 64 or 32; the learning rate goes with its square root (Malladi et al. 2022) |
| student_views.count | 60,000 views in all, so that few images have many |
| val | 1,000 images, between a twentieth and a fifth of what is left for training, and 5 of the rarest class |
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import Template
from typing import Any

SMALL_SIDE, LARGE_SIDE = 64, 224  # pixels: up to which nets from scratch do, and which pretrained ones know
WHOLE_STEM = 40  # pixels up to which halving the image in the first layer costs accuracy
MANY = 10_000  # labelled images from which on nets from scratch need no pretrained weights
BATCHES = ((2000, 128), (500, 64), (0, 32))  # training images from which on, images a step
EPOCHS, VIEWS = (6, 200), (3, 64)  # at least and at most; views are those of each image that are cached
TEST, VAL, VAL_SHARE = 0.2, 1000, (0.05, 0.2)  # a share of all, images, and shares of what is left for training
RAREST, RAREST_SHARE = 5, 0.4  # images of the rarest class in val, and the share of it that they may be
PHOTOS = 96  # pixels from which on views are those of photos
STORED = 8 / 7  # of what is seen, so that crops are of more pixels: 256 for 224
NONE = "data/none/unlabelled"  # a folder without images
ROOM = 1.15  # of the file that ships, over what it is expected to have


@dataclass(frozen=True)
class Facts:
    """What is known of a folder of images.

    name: what the registered model shall be called. csv: the name of the table; "": a folder is a class.
    left, val, test: labelled images of each class: those of train or of no split, those that the folder has in val and
    in test. side: pixels, the median of the shorter sides. gray: no image has a colour. unlabelled: images without a
    label. unreadable: files that can't be read. gpu: there is one to train on.
    """

    name: str
    csv: str
    left: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]
    side: int
    gray: bool = False
    unlabelled: int = 0
    unreadable: int = 0
    gpu: bool = False

    @property
    def images(self) -> int:
        return sum(self.left) + sum(self.val) + sum(self.test)

    @property
    def pretrained(self) -> bool:
        return self.gpu and (self.side > SMALL_SIDE or self.images < MANY)


@dataclass(frozen=True)
class Recipe:
    """What kind of models, and the values that are made for them.

    models: the part of the profile that names them. blocks: images that each block sees in training, and its learning
    rate at `batch` images a step. views: cached in all. file: bytes of the student's, and those of each class.
    """

    models: str
    blocks: dict[str, tuple[int, float]]
    batch: int
    views: int
    file: tuple[int, int]


def recipe(facts: Facts) -> Recipe:
    return PRETRAINED if facts.pretrained else FROM_SCRATCH


def image_size(side: int, gpu: bool) -> int:
    """Pixels a side of prepared images. side: the median of those that come."""
    return max(8, min(side, LARGE_SIDE if gpu else SMALL_SIDE))


def profile(facts: Facts) -> str:
    """A whole params.yaml, with comments."""
    text = Template(HEAD + recipe(facts).models + TAIL).substitute(values(facts))
    text = re.sub(r"^( *[\w{][^#\n]*?) +# ", lambda found: f"{found[1]:<25} # ", text, flags=re.MULTILINE)
    return text.replace("source: csv\n", f"source: csv\n  csv: {json.dumps(facts.csv, ensure_ascii=False)}\n")


def values(facts: Facts) -> dict[str, Any]:
    """What the templates below ask for by name."""
    made_for, counts = recipe(facts), split(facts)
    every = counts["train"] + facts.unlabelled  # images that a student sees
    batch = min(made_for.batch, next(size for least, size in BATCHES if counts["train"] >= least))
    chosen = {
        **counts,
        **{f"{name}_epochs": _epochs(seen, counts["train"]) for name, (seen, _) in made_for.blocks.items()},
        **{f"{name}_lr": _rounded(lr * math.sqrt(batch / made_for.batch)) for name, (_, lr) in made_for.blocks.items()},
        "batch": batch,
        "image_size": image_size(facts.side, facts.gpu),
        "size_mb": math.ceil(10 * ROOM * (made_for.file[0] + made_for.file[1] * len(facts.left)) / 1e6) / 10,
        "name": json.dumps(
            re.sub(r"[^A-Za-z0-9_.-]+", "-", facts.name).strip("-._")[:100] or "own"
        ),  # 2024 is a number
    }
    alone, taught = chosen["student_epochs"], _epochs(made_for.blocks["student"][0], every)
    halved = chosen["image_size"] > WHOLE_STEM
    return chosen | {
        "images": f"{facts.images:,}",
        "classes": len(facts.left),
        "side": facts.side,
        "source": "csv" if facts.csv else "image_folder",
        "unlabelled": "data/unlabelled" if facts.unlabelled else NONE,
        "mode": "gray" if facts.gray else "auto",
        "on_error": "skip" if facts.unreadable else "fail",
        "stored_size": round(STORED * chosen["image_size"]) if chosen["image_size"] >= PHOTOS else "null",
        "views_of": "preset: photo" if chosen["image_size"] >= PHOTOS else f"shift: {round(chosen['image_size'] / 14)}",
        "stem_stride": "null     # timm's 2" if halved else "1        # timm's 2 costs accuracy at so few pixels",
        "student_epochs": taught,
        "baseline": f"epochs: {alone}, " if facts.unlabelled else "",
        "views": min(taught, max(VIEWS[0], min(VIEWS[1], made_for.views // every))),
    }


def split(facts: Facts) -> dict[str, Any]:
    """The shares of test and val, how many images train and val have, and at least how many of each class val has."""
    test = 0 if sum(facts.test) else TEST
    rest = _left(sum(facts.left), test)
    pool = _least_left(facts.left, sum(facts.left) - rest)
    wanted = max(min(max(VAL / rest, VAL_SHARE[0]), VAL_SHARE[1]), min(RAREST / max(1, pool), RAREST_SHARE))
    share = math.ceil(1000 * wanted) / 1000
    train = rest if sum(facts.val) else _left(rest, share)
    rarest = min(facts.val) if sum(facts.val) else math.floor(share * pool)
    return {"val_fraction": share, "test_fraction": TEST, "train": max(1, train),
            "val": sum(facts.val) or rest - train, "rarest": rarest}  # fmt: skip


def _left(images: int, share: float) -> int:
    return images - math.ceil(share * images)


def _least_left(counts: Sequence[int], taken: int) -> int:
    """Images of the rarest class, at least, after so many of all have gone; stratified rounds its part up or down."""
    return max(0, min(counts) - (min(counts) * taken // sum(counts) + 1 if taken else 0))


def _epochs(seen: int, images: int) -> int:
    return max(EPOCHS[0], min(EPOCHS[1], round(seen / images)))


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")


def reasons(facts: Facts) -> list[str]:
    """Why the values are what they are."""
    chosen = values(facts)
    size, steps = chosen["image_size"], math.ceil(chosen["train"] / chosen["batch"])
    limit = "pretrained models know no more" if facts.gpu else "more takes long without a GPU"
    models = "small nets from scratch: there is no GPU; a pretrained teacher stands there as a comment"
    if facts.gpu:
        models = "small nets from scratch: images are small and many"
    if facts.pretrained:
        models = "pretrained models: there is a GPU, and images are large or few"
    said = [
        f"data.image_size {size}: the median of shorter sides is {facts.side}{f', and {limit}' * (facts.side > size)}",
        models,
        f"batch_size {chosen['batch']}: {chosen['train']:,} images to train on are {steps:,} steps an epoch",
        f"epochs: as many that a teacher sees {next(iter(recipe(facts).blocks.values()))[0]:,} images",
        f"student_views.count {chosen['views']}: the fewer images, the more views of each",
    ]
    if facts.csv:
        said.append(f"data.source csv: {facts.csv} has the labels")
    if not sum(facts.val):
        said.append(f"data.val_fraction {chosen['val_fraction']}: {chosen['val']:,} images choose what ships")
    if facts.gray:
        said.append("data.mode gray: no image has a colour")
    if facts.unreadable:
        said.append(f"data.on_error skip: {facts.unreadable:,} files can't be read")
    return said


HEAD = """\
# What `make import` proposed for $images images of $classes classes. Change what you know better, then
#   make repro PROFILE=profiles/own.yaml
# Every other key, with its default and its meaning, is in pipeline/defaults.yaml.

seed: 0
data:
  source: $source
  path: data/images
  unlabelled: $unlabelled
  image_size: $image_size          # pixels a side; of your images the median has $side
  stored_size: $stored_size # pixels a side of training images that crops are taken from; null: image_size
  mode: $mode              # gray: one channel; auto: three
  on_error: $on_error          # of what can't be read: fail, or skip
  val_fraction: $val_fraction # of the training images, where there is no val: chooses weights and what ships
  test_fraction: $test_fraction # of all images, where there is no test: is read last
views:
  $views_of                # docs/views.md
  flip: true              # false where left and right differ in meaning, as of letters
student_views: {count: $views} # views of each image whose logits are cached; more of them teach more from few images

"""

SMALL_MODELS = """\
teachers:                 # small nets from scratch, in minutes without a GPU
  resnet:
    model: test_resnet
    kwargs: {channels: [24, 48, 96, 144]}
    stem_stride: $stem_stride
    epochs: $resnet_epochs
    batch_size: $batch
    lr: $resnet_lr
  deep_resnet:
    model: resnet10t
    kwargs: {channels: [24, 48, 96, 192]}
    stem_stride: $stem_stride
    epochs: $deep_resnet_epochs
    batch_size: $batch
    lr: $deep_resnet_lr
  byobnet:
    model: test_byobnet
    stem_stride: $stem_stride
    epochs: $byobnet_epochs
    batch_size: $batch
    lr: $byobnet_lr
# Weights that know ImageNet are worth most where images are few, and take a CPU hours. They come from the Hugging Face
# hub, or, where it can't be reached, from a file or a package (docs/pretrained.md: local-dir:FOLDER and
# backbone_sha256). Such a teacher:
#  resnet18:
#    backbone: hf-hub:timm/resnet18.a1_in1k
#    epochs: 8
#    freeze_epochs: 1
#    batch_size: 32
#    lr: 0.0005
#    layer_decay: 0.8

student:                  # clearly smaller than its teachers, or there is nothing to teach
  model: test_resnet
  kwargs: {channels: [8, 16, 32, 48], stem_width: 8}
  epochs: $student_epochs
  batch_size: $batch
  lr: $student_lr
student_seeds: [0, 1, 2, 3, 4] # a student a seed in every arm; gains have an interval over them
baseline: {${baseline}lr: $student_lr} # the same student without a teacher

distill: {sources: [ensemble], objective: kd, alpha: 0.9, temperature: 2.0}
"""

PRETRAINED_MODELS = """\
# Weights come from the Hugging Face hub once; where it can't be reached, from a file or a package (docs/pretrained.md:
# local-dir:FOLDER and backbone_sha256).
teachers:
  resnet18: &resnet
    backbone: hf-hub:timm/resnet18.a1_in1k
    epochs: $teacher_epochs
    freeze_epochs: 1      # the head alone, until it fits: a random one would spoil what is below it
    batch_size: $batch
    lr: $teacher_lr
    layer_decay: 0.8      # the nearer to the pixels, the less there is to change
  resnet50:
    <<: *resnet
    backbone: hf-hub:timm/resnet50.a1_in1k
  efficientnet_b0:
    backbone: hf-hub:timm/efficientnet_b0.ra_in1k
    precision: fp32       # depthwise convolutions are slower in bf16
    epochs: $teacher_epochs
    freeze_epochs: 1
    batch_size: $batch
    lr: $teacher_lr

student:                  # clearly smaller than its teachers, or there is nothing to teach
  backbone: hf-hub:timm/mobilenetv3_small_100.lamb_in1k
  precision: fp32
  epochs: $student_epochs
  freeze_epochs: 1
  batch_size: $batch
  lr: $student_lr
student_seeds: [0, 1, 2]  # a student a seed in every arm; gains have an interval over them
baseline: {${baseline}lr: $student_lr} # the same student without a teacher

distill: {sources: [ensemble], objective: kd, alpha: 0.7, temperature: 3.0}
"""

TAIL = """\
ensemble: {methods: [weighted, greedy, stacking]} # beside the simple average; the best one on val teaches
deploy:
  name: $name             # of the registered model in MLflow
  constraints: {size_mb: $size_mb} # what ships must keep: p95_ms, size_mb (a student's fits), memory_mb, accuracy
  tolerance: 0.003        # the fastest ships that is at most so far below the best, as a fraction of val
loss: {} # {class_weights: balanced}: rare classes weigh more

cross_fit: {}
logits: {}
compute: {}
benchmark: {}
tracking: {}
ci: {}
"""

FROM_SCRATCH = Recipe(
    SMALL_MODELS,  # images and rates of params.yaml
    {
        "resnet": (64_000, 0.006),
        "deep_resnet": (48_000, 0.005),
        "byobnet": (72_000, 0.008),
        "student": (120_000, 0.024),
    },
    batch=128,
    views=60_000,
    file=(430_000, 4 * 49),
)
PRETRAINED = Recipe(
    PRETRAINED_MODELS,  # rates of profiles/imagenet-pretrained.yaml
    {"teacher": (24_000, 0.0005), "student": (36_000, 0.001)},
    batch=64,
    views=12_000,
    file=(6_100_000, 4 * 1025),
)
