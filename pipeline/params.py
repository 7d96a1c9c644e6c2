"""params.yaml, laid over pipeline/defaults.yaml, as typed values: what gets past this module is usable.

The schema checks and has no defaults. `python -m pipeline.params` checks the files and prints nothing when all is well.
"""

import difflib
import json
import math
import os
import re
from functools import reduce
from itertools import chain
from operator import getitem
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from pipeline.project import errors, paths
from pipeline.project.errors import PipelineError

DEFAULTS = Path(__file__).with_name("defaults.yaml")
BASELINE = "baseline"  # the arm without a teacher
STUDENT_ARMS = (BASELINE, "single", "ensemble")  # a student's name is ARM-SEED
LARGEST = 100_000  # values in a YAML file, each alias counted as what it stands for: nine lines can mean a billion
SENTENCES = 20  # said of one file, at most
SHOWN = 60  # characters of a key or a value in a sentence, at most
LONGEST_PARAM = 6000  # characters, MLflow's limit
LONGEST_NAME = 255  # bytes that file systems give to a name
HUB_NAME = r"[\w.-]+/[\w.-]+(@[\w./-]+)?"  # with @ a branch, a tag or a commit
TIMM_NAME = r"[a-z0-9_]+(\.[a-z0-9_]+)?"
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")

Probability = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]
BatchSize = Annotated[int, Field(ge=1, le=1_000_000)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]  # DVC writes it as it stands into commands and paths
CombinationMethod = Literal["mean_probs", "mean_logits", "vote", "weighted", "greedy", "stacking"]
Source = Annotated[str, Field(pattern=r"^(single|ensemble|from_[a-z][a-z0-9_]{0,31})$")]
Temperature = Annotated[float, Field(gt=0, le=1000)]
OBJECTIVE_WEIGHTS = {  # and their defaults
    "dkd": {"target": 1.0, "others": 8.0},
    "dist": {"inter": 1.0, "intra": 1.0},
    "logit_dist": {"inter": 1.0, "intra": 1.0},
}
NEED_ALL_LOGITS = ("standardised_kd", "dist", "logit_dist", "mse")  # as each class of its own counts as any other
SOURCES = ("fashion_mnist", "digits", "image_folder", "csv")
TORCHVISION = "torchvision:"  # and the name of a data set there
TeacherName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


def _distinct(values: list) -> list:
    if len(set(values)) != len(values):
        raise ValueError("has the same entry twice")
    return values


def _printable(text: str) -> str:
    if not text.strip() or UNPRINTABLE.search(text):
        raise ValueError("is blank or holds characters that can't be printed")
    return text


def _source_of_images(text: str) -> str:
    if text not in SOURCES and not re.fullmatch(f"{TORCHVISION}[A-Za-z0-9_]{{1,100}}", text):
        raise ValueError(f"is {_short(text)}; it should be {', '.join(SOURCES)} or {TORCHVISION}NAME, as in CIFAR10")
    return text


def _place(text: str) -> str:
    """Anywhere on this machine, but for what DVC would take for something else and for where stages write."""
    folder = Path(os.path.normpath(Path.cwd() / text))
    if text.startswith("~"):
        raise ValueError(f"is {_short(text)}, where ~ stands for no folder; write the whole path")
    if "://" in text:
        raise ValueError(f"is {_short(text)}, an address; it should be a place on this machine")
    if folder.suffix == ".dvc" or folder.name in (".dvc", paths.DVC_YAML.name, paths.DVC_LOCK.name):
        raise ValueError(f"is {_short(text)}, a name that DVC keeps for its own files; choose another name")
    if any(len(part.encode()) > LONGEST_NAME for part in folder.parts):
        raise ValueError(f"has a name of more than {LONGEST_NAME} bytes")
    for name in paths.WRITTEN:
        written = Path.cwd() / name
        if folder.is_relative_to(written) or written.is_relative_to(folder):
            raise ValueError(f"is {_short(text)}, but stages write into {name}; choose a place of its own")
    return text


def _backbone(text: str) -> str:
    kind, colon, place = text.partition(":")
    if kind in ("local-dir", "file") and "$" not in place:
        _place(_printable(place))
    elif not re.fullmatch(HUB_NAME if kind == "hf-hub" else TIMM_NAME, place if colon else text):
        raise ValueError(
            f"is {_short(text)}; it should be hf-hub:OWNER/NAME, local-dir:FOLDER, file:CHECKPOINT, or a name of "
            "timm's pretrained weights such as resnet18.a1_in1k"
        )
    return text


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    try:
        text = json.dumps(values, allow_nan=False, ensure_ascii=False)
        plain = json.loads(text.encode()) == values
    except (ValueError, TypeError, RecursionError):
        plain = False
    if not plain:
        raise ValueError("should hold numbers, text, true, false, null, and lists and blocks of these")
    return values


Seeds = Annotated[list[Seed], Field(min_length=1, max_length=100), AfterValidator(_distinct)]
Folder = Annotated[str, Field(min_length=1), AfterValidator(_printable), AfterValidator(_place)]
Backbone = Annotated[str, Field(max_length=1000), AfterValidator(_backbone)]


class Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(Block):
    """Which images there are, and which part of them is for what; see pipeline.images.sources."""

    source: Annotated[str, AfterValidator(_source_of_images)]
    path: Folder
    csv: Annotated[str, Field(pattern=r"^[^/\\]+$", max_length=LONGEST_NAME), AfterValidator(_printable)]
    unlabelled: Folder
    mode: Literal["auto", "gray", "colour"]
    background: Annotated[str, Field(pattern=r"^(white|black|gray|#[0-9a-fA-F]{6})$")]
    bits: Annotated[int, Field(ge=8, le=16)] | None
    group: Literal["column", "folder", "prefix"] | None
    on_error: Literal["fail", "skip"]
    image_size: Annotated[int, Field(ge=8, le=1024)]
    stored_size: Annotated[int, Field(ge=8, le=1024)] | None
    val_fraction: Fraction
    test_fraction: Fraction
    train_samples: Count | None
    unlabelled_samples: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _leaves_images_without_a_label(self) -> "Data":
        if self.unlabelled_samples and self.train_samples is None:
            raise ValueError(
                f"`unlabelled_samples` is {self.unlabelled_samples}, but every training image keeps its label; set "
                "`train_samples` to how many shall have one"
            )
        return self

    @model_validator(mode="after")
    def _stores_no_less_than_is_seen(self) -> "Data":
        if self.stored_size is not None and self.stored_size < self.image_size:
            raise ValueError(f"`stored_size` is {self.stored_size}, less than `image_size`, {self.image_size}")
        return self

    @model_validator(mode="after")
    def _takes_no_image_twice(self) -> "Data":
        """Images of val and test that came in again without their labels would be learnt from."""
        if self.source not in ("image_folder", "csv"):
            return self
        labelled, unlabelled = (Path(place).resolve() for place in (self.path, self.unlabelled))
        if labelled.is_relative_to(unlabelled) or unlabelled.is_relative_to(labelled):
            raise ValueError(
                f"`unlabelled` is {_short(self.unlabelled)}, which overlaps with `path`, {_short(self.path)}; images "
                "of val and test would be learnt from: choose a place beside it"
            )
        return self

    @model_validator(mode="after")
    def _groups_by_what_is_there(self) -> "Data":
        if self.group and self.source not in ("image_folder", "csv"):
            raise ValueError(f"`group` is {self.group}, but only image_folder and csv have groups")
        if self.group == "column" and self.source != "csv":
            raise ValueError("`group` is column, but only source csv has columns; choose folder or prefix")
        return self


class Augmentation(Block):
    """Of every training image; None: as the preset has it. See pipeline.training.views."""

    preset: Literal["none", "small", "photo"]
    shift: Annotated[int, Field(ge=0, le=64)] | None
    flip: bool | None
    crop: Annotated[float, Field(gt=0, le=1)] | None
    jitter: Probability | None
    hue: Annotated[float, Field(ge=0, le=0.5)] | None
    gray: Probability | None
    trivial: bool | None
    erase: Probability | None

    @model_validator(mode="after")
    def _moves_images_once(self) -> "Augmentation":
        cropped = self.preset == "photo" if self.crop is None else self.crop < 1
        if cropped and self.shift:
            raise ValueError(f"has `shift` {self.shift} beside a crop, which moves images too; set `shift` to null")
        return self


class StudentViews(Block):
    """How many views of each image are cached, and how they are mixed with another image's."""

    count: Annotated[int, Field(ge=1, le=1000)]
    mixup: Annotated[float, Field(ge=0, le=100)]
    cutmix: Annotated[float, Field(ge=0, le=100)]


class LabelLoss(Block):
    class_weights: Literal["none", "balanced"]


class CrossFit(Block):
    """In how many folds teachers label what they did not learn from; 1: each labels what it has seen."""

    folds: Annotated[int, Field(ge=1, le=20)]


class Compute(Block):
    accelerator: Literal["auto", "cpu", "cuda", "mps"]
    devices: Annotated[int, Field(ge=1, le=1024)]
    num_nodes: Annotated[int, Field(ge=1, le=4096)]
    threads: Annotated[int, Field(ge=1, le=1024)]
    compile: bool


class Logits(Block):
    top_k: Count | None


class Architecture(Block):
    """A timm model by name, or by the pretrained weights that it starts from; see pipeline.training.models.build."""

    model: Annotated[str, Field(min_length=1, max_length=200)] | None
    kwargs: Annotated[dict[str, Any], AfterValidator(_plain)]
    backbone: Backbone | None
    backbone_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None
    input_size: Annotated[int, Field(ge=8, le=1024)] | None
    stem_stride: Annotated[int, Field(ge=1, le=4)] | None
    precision: Literal["auto", "fp32", "bf16"]

    @model_validator(mode="after")
    def _has_one_size(self) -> "Architecture":
        if self.input_size is not None and "img_size" in self.kwargs:
            raise ValueError(f"has `input_size` {self.input_size} and `img_size` in `kwargs`; leave the latter out")
        return self

    @model_validator(mode="after")
    def _names_a_model(self) -> "Architecture":
        if self.model is None and self.backbone is None:
            raise ValueError("needs `model`, a name of timm's, or a `backbone` that names one")
        if self.model is None and self.backbone.startswith("file:"):
            raise ValueError("needs `model`, as a `backbone` that is a file does not name it")
        return self


class Training(Block):
    """How a model is trained; see pipeline.training.loop.fit."""

    epochs: Epochs
    batch_size: Annotated[BatchSize, Field(ge=2)]
    lr: Positive
    weight_decay: Annotated[float, Field(ge=0)]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    ema: Annotated[float, Field(ge=0, lt=1)]
    freeze_epochs: Annotated[int, Field(ge=0)]
    layer_decay: Annotated[float, Field(gt=0, le=1)]

    @model_validator(mode="after")
    def _freezes_within_training(self) -> "Training":
        if self.freeze_epochs > self.epochs:
            raise ValueError(f"has {self.freeze_epochs} `freeze_epochs` of {self.epochs} `epochs`")
        return self


class Model(Architecture, Training):
    """An architecture and how it is trained: a student of any arm."""


class Teacher(Model):
    """Blocks that differ in `seed` alone are a deep ensemble (Lakshminarayanan et al. 2017)."""

    seed: Seed


class Baseline(Block):
    """What the student alone has in place of `student`'s, so that it is as good as it can be without a teacher."""

    epochs: Epochs | None
    lr: Positive
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    views: Literal["new", "cached"]

    @property
    def training(self) -> dict[str, Any]:
        """What stands in place of the student's own."""
        return self.model_dump(exclude={"views"}, exclude_none=True)


class Ensemble(Block):
    """How members are combined; see pipeline.ensembles.fitting."""

    methods: Annotated[list[CombinationMethod], AfterValidator(_distinct)]
    calibrate: Annotated[list[Literal["members", "result"]], AfterValidator(_distinct)]
    folds: Annotated[int, Field(ge=2, le=100)]
    select: Literal["auto", "simple", CombinationMethod]
    metric: Literal["nll", "accuracy"]
    budget_ms: Positive | None

    @model_validator(mode="after")
    def _selects_what_it_fits(self) -> "Ensemble":
        if self.select not in ("auto", "simple", *self.methods):
            raise ValueError(f"`select` is {self.select}, which `methods` does not list")
        return self


class Distill(Block):
    """How students are taught; see pipeline.distillation.objectives.

    sources: the best single teacher on val, the ensemble, or from_NAME: the teacher of that name.
    weights: of the objective's own terms. alpha_end, temperature_end: what they change to in the course of training.
    """

    sources: Annotated[list[Source], Field(min_length=1), AfterValidator(_distinct)]
    objective: Literal["kd", "standardised_kd", "dkd", "dist", "logit_dist", "mse", "soft_ce"]
    weights: dict[str, Annotated[float, Field(ge=0)]]
    alpha: Probability
    temperature: Temperature
    alpha_end: Probability | None
    temperature_end: Temperature | None

    @property
    def target_temperature(self) -> float:
        """Where the softmax of the teacher's logits is what the objective takes of them."""
        return 1.0 if self.objective == "soft_ce" else self.temperature

    @property
    def teaches(self) -> bool:
        return self.alpha > 0 or bool(self.alpha_end)

    def at(self, progress: float) -> tuple[float, float]:
        """alpha and temperature when that share of training, from 0 to 1, is done."""
        alpha = self.alpha if self.alpha_end is None else self.alpha_end
        temperature = self.temperature if self.temperature_end is None else self.temperature_end
        return (
            self.alpha + progress * (alpha - self.alpha),
            self.temperature + progress * (temperature - self.temperature),
        )

    @model_validator(mode="after")
    def _weighs_its_own_terms(self) -> "Distill":
        known = OBJECTIVE_WEIGHTS.get(self.objective, {})
        for name in self.weights.keys() - known:
            has = f"has {', '.join(known)}" if known else "has none"
            raise ValueError(f"`weights.{name}` is no weight of {self.objective}, which {has}")
        return self


class Benchmark(Block):
    threads: Annotated[int, Field(ge=1, le=1024)]
    calls: dict[BatchSize, Count]
    warmup: Count
    bootstrap: Annotated[int, Field(ge=100, le=10_000_000)]
    corrupted: Annotated[int, Field(ge=0, le=1_000_000_000)]

    @model_validator(mode="after")
    def _needs_the_two_batches_of_the_table(self) -> "Benchmark":
        if 1 not in self.calls or len(self.calls) < 2:
            raise ValueError("`calls` needs an entry for batch 1 and one for a larger batch, as the table shows both")
        return self


class Constraints(Block):
    """What the model that ships must keep; None: whatever it is. accuracy: at least, on val; the others: at most."""

    p95_ms: Positive | None
    size_mb: Positive | None
    memory_mb: Positive | None
    accuracy: Probability | None


class Deploy(Block):
    """tolerance: how far below the best that keeps the constraints a faster one may be, as a fraction.

    int8_max_loss: how far INT8 may be below its own fp32 on val, as a fraction; beyond that it never ships.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
    constraints: Constraints
    tolerance: Probability
    int8_max_loss: Probability


class Tracking(Block):
    experiment: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
    strict: bool


class Ci(Block):
    """max_regression: how far below the base an accuracy on val may be, a fraction; see pipeline.reporting.review."""

    max_regression: Probability


class Params(Block):
    seed: Seed
    data: Data
    views: Augmentation
    student_views: StudentViews
    loss: LabelLoss
    cross_fit: CrossFit
    logits: Logits
    compute: Compute
    teachers: Annotated[dict[TeacherName, Teacher], Field(min_length=1)]
    ensemble: Ensemble
    student: Model
    student_seeds: Seeds
    baseline: Baseline
    distill: Distill
    benchmark: Benchmark
    deploy: Deploy
    tracking: Tracking
    ci: Ci

    @model_validator(mode="after")
    def _names_are_free(self) -> "Params":
        """Teachers, students and ensembles are rows of one table and files of one folder."""
        ensembles = ("simple", *get_args(CombinationMethod))
        for name in self.teachers:
            if name in STUDENT_ARMS or name.startswith("from_"):
                raise ValueError(f"`teachers.{name}` has the name of a kind of student; choose another name")
            if name in ensembles:
                raise ValueError(f"`teachers.{name}` has the name of a kind of ensemble; choose another name")
            if name == "deployed" or name.endswith("_int8"):
                raise ValueError(f"`teachers.{name}` has the name of what is made from a model; choose another name")
        return self

    @model_validator(mode="after")
    def _baseline_outlasts_the_freezing(self) -> "Params":
        if self.student.freeze_epochs > self.baseline_student().epochs:
            raise ValueError(f"`baseline.epochs` is less than `student.freeze_epochs`, {self.student.freeze_epochs}")
        return self

    @model_validator(mode="after")
    def _sources_exist(self) -> "Params":
        for source in self.distill.sources:
            name = source.removeprefix("from_")
            if name != source and name not in self.teachers:
                raise ValueError(f"`distill.sources` has {source}, but the teachers are {', '.join(self.teachers)}")
        return self

    @model_validator(mode="after")
    def _objective_fits_its_targets(self) -> "Params":
        if self.logits.top_k is None:
            return self
        if self.distill.objective in NEED_ALL_LOGITS:
            raise ValueError(
                f"`distill.objective` {self.distill.objective} needs all logits; set `logits.top_k` to null"
            )
        if self.distill.temperature_end is not None and self.distill.objective != "soft_ce":
            raise ValueError("`distill.temperature_end` needs all logits; set `logits.top_k` to null")
        return self

    def fold_teachers(self, teacher: str) -> list[str]:
        """The names of those that label the training images in that teacher's place; none without cross-fitting."""
        count = self.cross_fit.folds
        return [fold_name(teacher, fold, count) for fold in range(count)] if count > 1 else []

    def teacher(self, name: str) -> Teacher:
        if name not in self.teachers:
            raise PipelineError(f"{paths.PARAMS} has no teacher `{name}`; it has {', '.join(self.teachers)}.")
        return self.teachers[name]

    def baseline_student(self) -> Model:
        return self.student.model_copy(update=self.baseline.training)

    def student_arms(self) -> dict[str, list[str]]:
        """Each arm's models, one a seed: the baseline, then the sources of distillation."""
        return {arm: [f"{arm}-{seed}" for seed in self.student_seeds] for arm in (BASELINE, *self.distill.sources)}

    def models(self) -> list[str]:
        """The name of every model that may ship."""
        return [*self.teachers, *(model for models in self.student_arms().values() for model in models)]


def fold_name(teacher: str, fold: int, folds: int) -> str:
    """The name of the teacher that did not learn from that fold."""
    return f"{teacher}-fold{fold}of{folds}"


def load(path: Path = paths.PARAMS, defaults: Path = DEFAULTS) -> Params:
    """Read and validate both files; every mistake in them is a sentence of one PipelineError."""
    own, document = read(path), read(defaults)
    try:
        return Params.model_validate(overlay(document, own))
    except ValidationError as invalid:
        mistakes = invalid.errors()
        misspelt = [mistake for mistake in mistakes if mistake["type"] == "extra_forbidden"]  # explains what is missing
        sentences = list(dict.fromkeys(_told(mistake, own, document, path) for mistake in misspelt or mistakes))
        if len(sentences) > SENTENCES:
            sentences[SENTENCES:] = [f"{path}: {len(sentences) - SENTENCES} more mistakes."]
        raise PipelineError("\n       ".join(sentences)) from None


def load_for_dvc(path: Path = paths.PARAMS, defaults: Path = DEFAULTS) -> Params:
    """The same before DVC has read the file, which needs the name of each section and refuses more YAML."""
    settings, own = load(path, defaults), read(path)
    for section in Params.model_fields:
        if section not in own:
            raise PipelineError(f"{path} has no `{section}`; write `{section}: {{}}`, as DVC needs its name.")
    try:
        YAML(typ="safe").load(path.read_bytes())
    except YAMLError as error:  # of a colon, as in {source: torchvision:CIFAR10}
        where, problem = _told_by_yaml(error)
        raise PipelineError(f"{path}{where}: DVC can't read it ({problem}); put the value into quotes.") from None
    return settings


def overlay(defaults: Any, own: Any) -> Any:
    """`own` laid over what pipeline/defaults.yaml holds, whose block `teacher` is below each block of `teachers`."""
    if not isinstance(own, dict) or not isinstance(defaults, dict):
        return own
    below = {key: value for key, value in defaults.items() if key != "teacher"}
    if isinstance(own.get("teachers"), dict):
        below["teachers"] = dict.fromkeys(own["teachers"], defaults.get("teacher"))
    return _merged(below, own)


def _merged(below: Any, above: Any) -> Any:
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: _merged(below[key], value) if key in below else value for key, value in above.items()}


def _told(mistake: dict[str, Any], own: Any, defaults: Any, path: Path) -> str:
    """The file in which the wrong value stands, and the sentence. What is in neither belongs into params.yaml."""
    keys = [key for key in mistake["loc"] if key != "[key]"]
    below = ["teacher", *keys[2:]] if keys[:1] == ["teachers"] and len(keys) > 2 else keys
    if _holds(defaults, below) and not _holds(own, keys):
        return f"{paths.DEFAULTS}: {_sentence(mistake, below)}"
    return f"{path}: {_sentence(mistake, keys)}"


def _holds(document: Any, keys: list[str | int]) -> bool:
    try:
        reduce(getitem, keys, document)
    except (LookupError, TypeError):
        return False
    return True


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings and blocks to dotted names and strings, as MLflow's params want them."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        value = value.model_dump() if isinstance(value, Block) else value
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)[:LONGEST_PARAM]
    return flat


def read(path: Path) -> Any:
    """The content of a YAML file; what is no YAML is a PipelineError."""
    reader = YAML(typ="safe", pure=True)
    reader.Composer = _Bounded
    try:
        return reader.load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing; `git checkout {path}` brings the default back.") from None
    except UnicodeDecodeError:
        raise PipelineError(f"{path} is not UTF-8 text.") from None
    except YAMLError as error:
        where, problem = _told_by_yaml(error)
        raise PipelineError(f"{path}{where}: not valid YAML: {problem}.") from None
    except OSError:
        raise  # a folder of that name, say: pipeline.project.errors.run has the sentence
    except Exception as error:  # ruamel.yaml trips over dates, numbers and tags that are none, and over deep nesting
        raise PipelineError(f"{path}: not valid YAML: {error}.") from None


def _told_by_yaml(error: YAMLError) -> tuple[str, object]:
    """In which line, and what is wrong there."""
    mark = getattr(error, "problem_mark", None)
    return f", line {mark.line + 1}" if mark else "", getattr(error, "problem", error)


class _Bounded(Composer):
    """Refuses a document before it is built whose aliases multiply it beyond LARGEST, or that holds itself."""

    def get_single_node(self) -> Node | None:
        node = super().get_single_node()
        if node is not None and _values(node, {}) > LARGEST:
            raise ComposerError("", None, f"its aliases make more than {LARGEST:,} values of it", node.start_mark)
        return node


def _values(node: Node, known: dict[int, float]) -> float:
    """How many values a node stands for. known: of the nodes that were counted, by their `id`."""
    if id(node) not in known:
        known[id(node)] = math.inf  # until it is counted: whoever asks meanwhile is a part of it
        parts = [] if isinstance(node, ScalarNode) else node.value
        parts = chain.from_iterable(parts) if isinstance(node, MappingNode) else parts  # of pairs of key and value
        known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]


def _sentence(error: dict[str, Any], place: list[str | int]) -> str:
    keys = [_shown(part).strip("'\"") for part in place]
    key = ".".join(keys) or "the file"
    if error["type"] == "extra_forbidden":
        known = _known_keys(place[:-1])
        close = difflib.get_close_matches(keys[-1], known, n=1)
        hint = f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(known)}."
        return f"`{key}` is not a setting; {hint}"
    if error["type"] == "missing":
        return f"`{key}` is missing."
    if error["type"] == "value_error":
        message = str(error["ctx"]["error"])
        return f"`{key}` {message}." if keys else f"{message}."
    if error["type"] in ("model_type", "dict_type"):
        return f"`{key}` must be a block of `key: value` lines."
    if error["type"] == "string_pattern_mismatch" and place[:1] == ["teachers"]:
        return f"`{key}`: a teacher's name has lower-case letters, digits and _, a letter first, 32 at most."
    message = re.sub(r"^\w+ should ", "", error["msg"]).replace(" after validation", "")
    return f"`{key}` should {message}; it is {_shown(error['input'])}."


def _shown(value: Any) -> str:
    try:
        return _short(repr(value))
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _known_keys(parents: list[str | int]) -> list[str]:
    if parents and parents[0] in ("teacher", "teachers"):
        return sorted(Teacher.model_fields)
    block = Params
    for parent in parents:
        block = block.model_fields[parent].annotation
    return sorted(block.model_fields)


if __name__ == "__main__":
    errors.run(lambda: load_for_dvc() and None)
