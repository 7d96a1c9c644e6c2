"""params.yaml as typed values. The only reader of that file: a value that gets past this module is usable.

`python -m pipeline.params` checks the file and prints nothing when all is well.
"""

import difflib
import json
import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import Node, ScalarNode

from pipeline.project import errors, paths
from pipeline.project.errors import PipelineError
from pipeline.training import folds

STUDENT_ARMS = ("baseline", "single", "ensemble")  # a student's name is ARM-SEED
LARGEST = 100_000  # values in a YAML file, each alias counted as what it stands for: nine lines can mean a billion
SENTENCES = 20  # said of one file, at most
SHOWN = 60  # characters of a key or a value in a sentence, at most
LONGEST_NAME = 255  # bytes that file systems give to a name
HUB_NAME = r"[\w.-]+/[\w.-]+(@[\w./-]+)?"  # with @ a branch, a tag or a commit
TIMM_NAME = r"[a-z0-9_]+(\.[a-z0-9_]+)?"
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")

Probability = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
BatchSize = Annotated[int, Field(ge=1, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
CombinationMethod = Literal["mean_probs", "mean_logits", "vote", "weighted", "greedy", "stacking"]
Source = Annotated[str, Field(pattern=r"^(single|ensemble|from_[a-z][a-z0-9_]{0,31}(-[0-9]{1,10})?)$")]
Temperature = Annotated[float, Field(gt=0, le=1000)]
OBJECTIVE_WEIGHTS = {"dkd": {"target": 1.0, "others": 8.0}, "dist": {"inter": 1.0, "intra": 1.0}}  # and their defaults
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
    if "://" in text:
        raise ValueError(f"is {_short(text)}, an address; it should be a place on this machine")
    if folder.suffix == ".dvc" or folder.name in (".dvc", paths.DVC_YAML.name, paths.DVC_LOCK.name):
        raise ValueError(f"is {_short(text)}, a name that DVC keeps for its own files; choose another name")
    if any(len(part.encode()) > LONGEST_NAME for part in folder.parts):
        raise ValueError(f"has a name of more than {LONGEST_NAME} bytes")
    for name in paths.WRITTEN:
        written = Path.cwd() / name
        if folder == written or folder in written.parents or written in folder.parents:
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
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class Data(Block):
    """Which images there are, and which part of them is for what; see pipeline.images.sources."""

    source: Annotated[str, AfterValidator(_source_of_images)]
    path: Folder
    csv: Annotated[str, Field(pattern=r"^[^/\\]+$", max_length=LONGEST_NAME), AfterValidator(_printable)]
    unlabelled: Folder
    mode: Literal["auto", "gray", "colour"]
    on_error: Literal["fail", "skip"]
    image_size: Annotated[int, Field(ge=8, le=1024)]
    val_fraction: Fraction
    test_fraction: Fraction
    train_samples: Count | None
    class_weights: Literal["none", "balanced"]


class Augmentation(Block):
    shift: Annotated[int, Field(ge=0, le=64)]
    flip: bool
    erase: Probability
    mixup: Annotated[float, Field(ge=0, le=100)]
    cutmix: Annotated[float, Field(ge=0, le=100)]

    @property
    def mixes(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0


class Views(Augmentation):
    """Augmentation, and how many looks of it are cached."""

    count: Annotated[int, Field(ge=1, le=1000)]


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

    model: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    backbone: Backbone | None = None
    kwargs: Annotated[dict[str, Any], AfterValidator(_plain)] = {}
    stem_stride: Annotated[int, Field(ge=1, le=4)] | None = None
    precision: Literal["auto", "fp32", "bf16"] = "fp32"

    @property
    def local(self) -> str | None:
        """The folder or file of a backbone on this machine."""
        kind, _, place = (self.backbone or "").partition(":")
        return place if kind in ("local-dir", "file") else None

    @model_validator(mode="after")
    def _names_a_model(self) -> "Architecture":
        if self.model is None and self.backbone is None:
            raise ValueError("needs `model`, a name of timm's, or a `backbone` that names one")
        if self.model is None and self.backbone.startswith("file:"):
            raise ValueError("needs `model`, as a `backbone` that is a file does not name it")
        return self


class Training(Block):
    """How a model is trained; see pipeline.training.loop.fit."""

    epochs: Annotated[int, Field(ge=1, le=100_000)]
    batch_size: Annotated[BatchSize, Field(ge=2)]
    lr: Positive
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    freeze_epochs: Annotated[int, Field(ge=0)] = 0
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _freezes_within_training(self) -> "Training":
        if self.freeze_epochs > self.epochs:
            raise ValueError(f"has {self.freeze_epochs} `freeze_epochs` of {self.epochs} `epochs`")
        return self


class Model(Architecture, Training):
    """An architecture and how it is trained."""


class Teacher(Model):
    """With `seeds`, a deep ensemble: a member NAME-SEED for each of them (Lakshminarayanan et al. 2017)."""

    seeds: Seeds | None = None


class Student(Model):
    """Of both arms; the control arm's has something of `baseline` in place of its own."""


class Baseline(Block):
    """What the control arm has of its own, so that it is as good as it can be without a teacher."""

    lr: Positive
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]


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
    cross_fit: in how many folds teachers label what they did not learn from; 1: each labels what it has seen.
    weights: of the objective's own terms. alpha_end, temperature_end: what they change to in the course of training.
    """

    sources: Annotated[list[Source], Field(min_length=1), AfterValidator(_distinct)]
    objective: Literal["kd", "standardised_kd", "dkd", "dist", "mse", "soft_ce"]
    cross_fit: Annotated[int, Field(ge=1, le=20)]
    weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    alpha: Probability
    temperature: Temperature
    alpha_end: Probability | None = None
    temperature_end: Temperature | None = None

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

    @model_validator(mode="after")
    def _needs_the_two_batches_of_the_table(self) -> "Benchmark":
        if missing := {1, 128} - set(self.calls):
            raise ValueError(f"`calls` needs an entry for batch {sorted(missing)[0]}, which the table shows")
        return self


class Constraints(Block):
    """What the model that ships must keep; None: whatever it is. accuracy: at least, on val; the others: at most."""

    p95_ms: Positive | None
    size_mb: Positive | None
    memory_mb: Positive | None
    accuracy: Probability | None


class Deploy(Block):
    """tolerance: how far below the best that keeps the constraints a faster one may be, as a fraction."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
    constraints: Constraints
    tolerance: Probability


class Tracking(Block):
    experiment: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
    strict: bool


class Ci(Block):
    """max_regression: how far below the base an accuracy may be, as a fraction; see pipeline.reporting.review."""

    max_regression: Probability


class Params(Block):
    seed: Seed
    data: Data
    views: Views
    logits: Logits
    compute: Compute
    teachers: Annotated[dict[TeacherName, Teacher], Field(min_length=1)]
    ensemble: Ensemble
    student: Student
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

    @property
    def augmentation(self) -> Augmentation:
        """What teachers train with: ever new looks, none mixed, as whoever learns from soft labels teaches worse."""
        return Augmentation(**self.views.model_dump(include={"shift", "flip", "erase"}), mixup=0, cutmix=0)

    @model_validator(mode="after")
    def _sources_exist(self) -> "Params":
        members = self.members()
        for source in self.distill.sources:
            name = source.removeprefix("from_")
            if name != source and name not in members:
                raise ValueError(f"`distill.sources` has {source}, but the teachers are {', '.join(members)}")
        return self

    @model_validator(mode="after")
    def _objective_fits_its_targets(self) -> "Params":
        if self.logits.top_k and self.distill.temperature_end is not None:
            raise ValueError("`distill.temperature_end` needs all logits; set `logits.top_k` to null")
        return self

    @property
    def class_weights(self) -> Literal["none", "balanced"]:
        """What training depends on of `data`, beside the prepared images."""
        return self.data.class_weights

    def members(self) -> dict[str, str]:
        """The name of every model that is trained as a teacher, and the block under `teachers` that it follows."""
        return {
            name if seed is None else f"{name}-{seed}": name
            for name, teacher in self.teachers.items()
            for seed in teacher.seeds or [None]
        }

    def fold_teachers(self, member: str) -> list[str]:
        """The names of those that label the training images in that member's place; none without cross-fitting."""
        count = self.distill.cross_fit
        return [folds.name_of(member, fold, count) for fold in range(count)] if count > 1 else []

    def with_fold_teachers(self, member: str) -> list[str]:
        """The names of the member and of its fold teachers."""
        return [member, *self.fold_teachers(member)]

    def trained_teachers(self) -> dict[str, str]:
        """The members and their fold teachers, with the block under `teachers` that each follows."""
        return {name: block for member, block in self.members().items() for name in self.with_fold_teachers(member)}

    def teacher(self, member: str) -> Teacher:
        if member not in (members := self.members()):
            raise PipelineError(f"{paths.PARAMS} has no teacher `{member}`; it has {', '.join(members)}.")
        return self.teachers[members[member]]

    def control(self) -> Student:
        """The student of the control arm."""
        return self.student.model_copy(update=self.baseline.model_dump())

    def sources(self) -> list[str]:
        return list(self.distill.sources)

    def student_arms(self) -> dict[str, list[str]]:
        """Each arm's models, one a seed: the control arm `baseline`, then the sources of distillation."""
        return {arm: [f"{arm}-{seed}" for seed in self.student_seeds] for arm in ("baseline", *self.distill.sources)}

    def models(self) -> list[str]:
        """The name of every model that is trained."""
        return [*self.members(), *(model for models in self.student_arms().values() for model in models)]


def load(path: Path = paths.PARAMS) -> Params:
    """Read and validate the file; every mistake in it is a sentence of one PipelineError."""
    raw = read(path, YAML(typ="safe", pure=True))
    try:
        return Params.model_validate(raw)
    except ValidationError as invalid:
        mistakes = invalid.errors()
        misspelt = [mistake for mistake in mistakes if mistake["type"] == "extra_forbidden"]  # explains what is missing
        sentences = [_sentence(mistake) for mistake in misspelt or mistakes]
        if len(sentences) > SENTENCES:
            sentences[SENTENCES:] = [f"{len(sentences) - SENTENCES} more mistakes."]
        raise PipelineError("\n       ".join(f"{path}: {sentence}" for sentence in sentences)) from None


def read(path: Path, reader: YAML) -> Any:
    """The file's content by that reader; what is no YAML is a PipelineError."""
    reader.Composer = _Bounded
    try:
        return reader.load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing; `git checkout {path}` brings the default back.") from None
    except UnicodeDecodeError:
        raise PipelineError(f"{path} is not UTF-8 text.") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise PipelineError(f"{path}{where}: not valid YAML: {getattr(error, 'problem', error)}.") from None
    except OSError:
        raise  # a folder of that name, say: pipeline.project.errors.run has the sentence
    except Exception as error:  # ruamel.yaml trips over dates, numbers and tags that are none, and over deep nesting
        raise PipelineError(f"{path}: not valid YAML: {error}.") from None


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
        flat = [part for pair in parts for part in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_values(part, known) for part in flat)
    return known[id(node)]


def _sentence(error: dict[str, Any]) -> str:
    keys = [_shown(part).strip("'\"") for part in error["loc"] if part != "[key]"]
    key = ".".join(keys) or "the file"
    if error["type"] == "extra_forbidden":
        known = _known_keys(keys[:-1])
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
    message = re.sub(r"^\w+ should ", "", error["msg"]).replace(" after validation", "")
    return f"`{key}` should {message}; it is {_shown(error['input'])}."


def _shown(value: Any) -> str:
    try:
        return _short(repr(value))
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _known_keys(parents: list[str]) -> list[str]:
    block: Any = Params
    for parent in parents:
        block = Teacher if block is Params and parent == "teachers" else block
        if parent in getattr(block, "model_fields", {}) and block is not Teacher:
            block = block.model_fields[parent].annotation
    return sorted(block.model_fields)


if __name__ == "__main__":
    errors.run(lambda: load() and None)
