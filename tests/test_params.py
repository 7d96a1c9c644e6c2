import copy
import io
import math
import typing

import pytest
from ruamel.yaml import YAML

from pipeline import params
from pipeline.params import Block, Params
from pipeline.project import paths
from pipeline.project.errors import PipelineError
from tests.conftest import CHECKOUT

FILE, DEFAULTS = CHECKOUT / "params.yaml", CHECKOUT / "pipeline/defaults.yaml"
MISSING = object()


def document(path):
    return YAML(typ="safe").load(path.read_text())


def put(block, key, value):
    """Set a dotted key of nested mappings, or drop it where MISSING."""
    *parents, last = key.split(".")
    for parent in parents:
        block = block.setdefault(parent, {})
    if value is MISSING:
        del block[last]
    else:
        block[last] = value


def changed(*changes, file=FILE) -> str:
    """The repository's file with each (dotted key, value) of `changes` put."""
    content = document(file)
    for key, value in changes:
        put(content, key, value)
    return dumped(content)


def dumped(content) -> str:
    text = io.StringIO()
    YAML(typ="safe").dump(content, text)
    return text.getvalue()


@pytest.fixture
def load(tmp_path):
    """The params of two texts, in place of params.yaml and pipeline/defaults.yaml."""

    def read(own: str, defaults: str | None = None) -> Params:
        (tmp_path / "params.yaml").write_text(own)
        (tmp_path / "defaults.yaml").write_text(DEFAULTS.read_text() if defaults is None else defaults)
        return params.load(tmp_path / "params.yaml", tmp_path / "defaults.yaml")

    return read


@pytest.fixture
def refused(load):
    """The sentences that two texts are refused with."""

    def attempt(own: str, defaults: str | None = None) -> str:
        with pytest.raises(PipelineError) as error:
            load(own, defaults)
        return str(error.value)

    return attempt


def teacher(**changes):
    return {"model": "test_resnet", "epochs": 1, "batch_size": 8, "lr": 0.1, **changes}


def test_the_repositorys_own_file_says_the_experiment_in_at_most_75_lines():
    assert len(FILE.read_text().splitlines()) <= 75


def test_the_repositorys_own_file_loads_and_no_value_becomes_another():
    settings = params.load(FILE)
    assert settings.model_dump() == params.overlay(document(DEFAULTS), document(FILE))


@pytest.mark.parametrize("path", sorted((CHECKOUT / "profiles").glob("*.yaml")), ids=lambda path: path.name)
def test_every_profile_loads(path):
    assert params.load(path).teachers


@pytest.mark.parametrize("path", [FILE, *sorted((CHECKOUT / "profiles").glob("*.yaml"))], ids=lambda path: path.name)
def test_every_section_that_a_stage_lists_stands_in_the_file_as_dvc_wants_it(path):
    stages = document(CHECKOUT / "dvc.yaml")["stages"].values()
    listed = [key for stage in stages for key in stage.get("do", stage)["params"] if isinstance(key, str)]
    assert {key.split(".")[0] for key in listed} <= document(path).keys()


DEFAULT_TEACHER = {"lr": 1, "kwargs": {}, "model": None}


def test_what_params_say_is_laid_over_the_defaults_key_by_key():
    below = {"a": {"x": 1, "y": {"z": 2, "list": [1, 2]}}, "b": 3, "teacher": DEFAULT_TEACHER}
    own = {"a": {"y": {"list": [5]}}, "c": {"new": 4}}
    assert params.overlay(below, own) == {"a": {"x": 1, "y": {"z": 2, "list": [5]}}, "b": 3, "c": {"new": 4}}


def test_the_defaults_of_a_teacher_are_below_each_of_them():
    own = {"teachers": {"one": {"lr": 2}, "two": {"kwargs": {"channels": [4]}, "model": "x"}}}
    assert params.overlay({"teacher": DEFAULT_TEACHER}, own)["teachers"] == {
        "one": {"lr": 2, "kwargs": {}, "model": None},
        "two": {"lr": 1, "kwargs": {"channels": [4]}, "model": "x"},
    }


def test_an_overlay_leaves_both_documents_as_they_are():
    below, own = {"a": {"x": {"y": 1}}, "teacher": {"kwargs": {}}}, {"a": {"x": {"z": 2}}, "teachers": {"t": {}}}
    params.overlay(below, own)["a"]["x"]["new"] = 3
    assert (below, own) == (
        {"a": {"x": {"y": 1}}, "teacher": {"kwargs": {}}},
        {"a": {"x": {"z": 2}}, "teachers": {"t": {}}},
    )


@pytest.mark.parametrize("value", [None, 3, "x", [1]])
def test_a_section_that_is_no_block_is_refused_and_not_taken_for_the_defaults(refused, value):
    assert "`views` must be a block of `key: value` lines" in refused(changed(("views", value)))


def test_a_deep_ensemble_is_blocks_that_share_a_merge_key_and_differ_in_seed(load):
    text = changed(("teachers", {}), ("distill.sources", ["single"])).replace(
        "teachers: {}",
        "teachers:\n"
        "  one: &one {model: test_resnet, kwargs: {channels: [4, 8, 8, 16]}, epochs: 2, lr: 0.1}\n"
        "  two: {<<: *one, seed: 7}\n"
        "  three: {<<: *one, seed: 8, lr: 0.2}",
    )
    one, two, three = load(text).teachers.values()
    assert (one.seed, two.seed, three.seed) == (0, 7, 8) and three.lr == 0.2
    assert one.kwargs == {"channels": [4, 8, 8, 16]} and one.batch_size == document(DEFAULTS)["teacher"]["batch_size"]
    assert one == two.model_copy(update={"seed": 0}) == three.model_copy(update={"seed": 0, "lr": 0.1})


def blocks(kind):
    """Every kind of block that a block, or a type of its fields, holds at any depth."""
    if isinstance(kind, type) and issubclass(kind, Block):
        inside = [field.annotation for field in kind.model_fields.values()]
        return {kind}.union(*map(blocks, inside))
    return set().union(*map(blocks, typing.get_args(kind)))


def test_the_schema_has_no_default():
    schema = blocks(Params)
    assert len(schema) > 15
    assert not [(kind, name) for kind in schema for name, field in kind.model_fields.items() if not field.is_required()]


def leaves(block, above=""):
    for key, value in block.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}"


NEEDED = {
    "seed": 0,
    "data": {"source": "digits", "path": "data/none/images", "unlabelled": "data/none/unlabelled"},
    "teachers": {
        "by_model": {"model": "test_resnet", "epochs": 1, "lr": 0.1},
        "by_backbone": {"backbone": "resnet18.a1_in1k", "epochs": 1, "lr": 0.1},
    },
    "student": {"model": "test_resnet", "epochs": 1, "lr": 0.1},
    "student_seeds": [0],
    "baseline": {"lr": 0.1},
    "distill": {"sources": ["single"]},
}
DEFAULT_KEYS = list(leaves(document(DEFAULTS)))


def without(key):
    """The defaults without that key, and params that don't say it either."""
    below, own = document(DEFAULTS), copy.deepcopy(NEEDED)
    if key == "student.model":
        own["student"] = {"backbone": "resnet18.a1_in1k", "epochs": 1, "lr": 0.1}
    *parents, last = key.split(".")
    block = below
    for parent in parents:
        block = block[parent]
    del block[int(last) if last.isdigit() else last]
    return dumped(own), dumped(below)


def test_with_the_defaults_the_needed_keys_are_enough_and_every_default_is_known(load):
    assert load(dumped(NEEDED)).teachers.keys() == NEEDED["teachers"].keys()


@pytest.mark.parametrize("key", DEFAULT_KEYS)
def test_a_key_that_is_in_neither_file_is_a_sentence_that_names_it(refused, key):
    said = refused(*without(key)).splitlines()
    name = f"teachers.by_model.{key.removeprefix('teacher.')}" if key.startswith("teacher.") else key
    name = name.replace("by_model.model", "by_backbone.model")
    expected = "`calls` needs an entry for batch 1 and" if "benchmark.calls." in key else f"`{name}` is missing."
    assert expected in "".join(said) and "Traceback" not in "".join(said)


@pytest.mark.parametrize("key", list(leaves(NEEDED)))
def test_a_needed_key_has_no_default(refused, key):
    own = copy.deepcopy(NEEDED)
    put(own, key, MISSING)
    if key in ("student.model", "teachers.by_model.model"):
        sentence = f"`{key.removesuffix('.model')}` needs `model`, a name of timm's, or a `backbone` that names one."
    elif key == "teachers.by_backbone.backbone":
        sentence = "`teachers.by_backbone` needs `model`"
    else:
        sentence = f"`{key}` is missing."
    assert sentence in refused(dumped(own))


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("views.shift", -1, "`views.shift` should be greater than or equal to 0; it is -1."),
        ("views.shfit", 2, "`views.shfit` is not a setting; did you mean `shift`?"),
        ("vews", {}, "`vews` is not a setting; did you mean `views`?"),
        ("teacher.batch_size", 1, "`teacher.batch_size` should be greater than or equal to 2; it is 1."),
        ("teacher.batchsize", 8, "`teacher.batchsize` is not a setting; did you mean `batch_size`?"),
        ("ensemble.calibrate", ["result", "result"], "`ensemble.calibrate` has the same entry twice."),
        ("deploy.constraints.accuracy", 2, "`deploy.constraints.accuracy` should be less than or equal to 1; it is 2."),
    ],
)
def test_a_wrong_value_in_the_defaults_is_named_with_that_file_and_once(refused, key, value, sentence):
    assert refused(FILE.read_text(), changed((key, value), file=DEFAULTS)) == f"{paths.DEFAULTS}: {sentence}"


@pytest.mark.parametrize("key", ["views.shift", "teachers.resnet.batch_size", "deploy.constraints.accuracy"])
def test_a_wrong_value_in_params_is_named_with_that_file(refused, key):
    assert refused(changed((key, -1))).partition(": ")[0].endswith("/params.yaml")


def test_a_missing_file_of_defaults_is_named(tmp_path):
    with pytest.raises(PipelineError, match=r"defaults\.yaml is missing"):
        params.load(FILE, tmp_path / "defaults.yaml")


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("distill.temprature", 4, "`distill.temprature` is not a setting; did you mean `temperature`?"),
        ("sed", 1, "`sed` is not a setting; did you mean `seed`?"),
        ("teachers.resnet.batchsize", 8, "`teachers.resnet.batchsize` is not a setting; did you mean `batch_size`?"),
        ("student.xyz", 8, "`student.xyz` is not a setting; known here: backbone, backbone_sha256, batch_size, ema"),
        ("distill.alpha", 1.5, "`distill.alpha` should be less than or equal to 1; it is 1.5."),
        ("distill.alpha", -0.1, "`distill.alpha`"),
        ("distill.temperature", 0, "`distill.temperature` should be greater than 0"),
        ("distill.temperature", "hot", "`distill.temperature`"),
        ("distill.sources", ["single", "triple"], "`distill.sources.1`"),
        ("distill.sources", [], "`distill.sources`"),
        ("distill.sources", ["from_nobody"], "`distill.sources` has from_nobody, but the teachers are "),
        ("distill.objective", "magic", "`distill.objective`"),
        ("distill.weights", {"others": 1.0}, "`weights.others` is no weight of kd, which has none"),
        ("distill.alpha_end", 1.5, "`distill.alpha_end`"),
        ("student.ema", 1.0, "`student.ema`"),
        ("baseline.lr", 0, "`baseline.lr`"),
        ("baseline.epochs", 0, "`baseline.epochs`"),
        ("student.freeze_epochs", 61, "`student` has 61 `freeze_epochs` of 6 `epochs`"),
        ("data.unlabelled_samples", -1, "`data.unlabelled_samples`"),
        ("ci.max_regression", -0.1, "`ci.max_regression`"),
        ("teachers", {}, "`teachers`"),
        ("teachers", None, "`teachers` must be a block"),
        ("data.val_fraction", 1, "`data.val_fraction` should be less than 1"),
        ("data.source", "cifar", "`data.source` is cifar; it should be fashion_mnist, digits, image_folder, csv or "),
        ("data.image_size", 4, "`data.image_size`"),
        ("data.train_samples", 0, "`data.train_samples`"),
        ("student.lr", math.nan, "`student.lr` should be a finite number; it is nan."),
        ("student.lr", math.inf, "`student.lr`"),
        ("student.lr", 0, "`student.lr`"),
        ("student_seeds", [0, 1, 0], "`student_seeds` has the same entry twice."),
        ("student_seeds", [-1], "`student_seeds.0`"),
        ("student_seeds", [], "`student_seeds`"),
        ("student_seeds", [1.0], "`student_seeds.0` should be a valid integer; it is 1.0."),
        ("student_seeds", [True], "`student_seeds.0` should be a valid integer; it is True."),
        ("student.epochs", 1.5, "`student.epochs`"),
        ("teachers.baseline", teacher(), "`teachers.baseline` has the name of a kind of student"),
        ("teachers.ensemble", teacher(), "`teachers.ensemble` has the name of a kind of student"),
        ("teachers.../x", teacher(), "../x"),
        ("teachers.big", teacher(precision="fp8"), "`teachers.big.precision`"),
        ("teachers.big", teacher(stem_stride=0), "`teachers.big.stem_stride`"),
        ("ensemble.folds", 1, "`ensemble.folds`"),
        ("ensemble.select", "best", "`ensemble.select`"),
        ("ensemble.methods", ["weighted", "median"], "`ensemble.methods.1`"),
        ("ensemble.methods", ["weighted", "weighted"], "`ensemble.methods` has the same entry twice."),
        ("ensemble.calibrate", ["all"], "`ensemble.calibrate.0`"),
        ("ensemble.budget_ms", 0, "`ensemble.budget_ms`"),
        ("teachers.resnet.seeds", [1, 1], "`teachers.resnet.seeds` is not a setting; did you mean `seed`?"),
        ("teachers.resnet.seed", -1, "`teachers.resnet.seed`"),
        ("student_views.count", 0, "`student_views.count`"),
        ("cross_fit.folds", 0, "`cross_fit.folds`"),
        ("student.backbone_sha256", "0", "`student.backbone_sha256`"),
        ("compute.accelerator", "tpu", "`compute.accelerator`"),
        ("benchmark.calls", {1: 10, 128: 0}, "`benchmark.calls.128`"),
        ("seed", 2**32, "`seed`"),
        ("seed", MISSING, "`seed` is missing."),
        ("distill.sources", MISSING, "`distill.sources` is missing."),
        ("student", [1], "`student` must be a block of `key: value` lines."),
    ],
    ids=lambda value: str(value)[:40] if value is not MISSING else "missing",
)
def test_a_bad_value_is_one_sentence_that_names_its_key(refused, key, value, sentence):
    text = changed((key, value))
    if key == "teachers.../x":
        text = changed(("teachers", {"../x": value}), ("distill.sources", ["single"]))
    message = refused(text)
    assert sentence in message
    assert len(message.splitlines()) == 1


def test_every_mistake_gets_its_sentence(refused):
    message = refused(changed(("distill.alpha", 2), ("seed", "x"), ("student.lr", MISSING)))
    assert all(key in message for key in ("`distill.alpha`", "`seed`", "`student.lr`"))
    assert len(message.splitlines()) == 3


def test_a_duplicate_key_is_refused_with_its_line(refused):
    text = FILE.read_text() + "seed: 1\n"
    assert f'line {len(text.splitlines())}: not valid YAML: found duplicate key "seed"' in refused(text)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("seed: [1, 2\n", "line 2"),
        ("seed: 1\n\tdata: 2\n", "line 2"),
        ("a: b: c\n", "line 1"),
        ("x: *nope\n", "line 1"),
    ],
)
def test_invalid_yaml_is_refused_with_its_line(refused, text, where):
    assert f"{where}: not valid YAML" in refused(text)


@pytest.mark.parametrize("text", ["", "- 1\n", "just words\n"])
def test_a_file_without_keys_is_refused(refused, text):
    assert "`the file` must be a block" in refused(text)


@pytest.mark.parametrize("value", ["2024-13-45", "!!int abc", pytest.param("9" * 5000, id="5000 digits")])
def test_a_scalar_that_yaml_cannot_convert_is_refused(refused, value):
    assert "params.yaml" in refused(f"seed: {value}\n")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "params.yaml").write_bytes(b"seed: \xff\xfe\n")
    with pytest.raises(PipelineError, match=r"params\.yaml is not UTF-8"):
        params.load(tmp_path / "params.yaml")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PipelineError, match=r"params\.yaml is missing"):
        params.load(tmp_path / "params.yaml")


@pytest.fixture
def settings(load):
    return load(changed(("student_seeds", [3, 5]), ("distill.sources", ["ensemble"]), ("teachers", {"big": teacher()})))


def test_models_are_the_teachers_and_a_student_a_seed_and_arm(settings):
    assert settings.student_arms() == {
        "baseline": ["baseline-3", "baseline-5"],
        "ensemble": ["ensemble-3", "ensemble-5"],
    }
    assert settings.models() == ["big", "baseline-3", "baseline-5", "ensemble-3", "ensemble-5"]


def test_with_cross_fitting_a_teacher_has_one_of_each_fold_beside_it(load, settings):
    assert settings.fold_teachers("big") == []
    folds = load(changed(("cross_fit.folds", 3)))
    assert folds.fold_teachers("resnet") == ["resnet-fold0of3", "resnet-fold1of3", "resnet-fold2of3"]


def test_a_method_that_is_not_fitted_cannot_be_selected(refused):
    message = refused(changed(("ensemble.methods", ["vote"]), ("ensemble.select", "greedy")))
    assert "`select` is greedy, which `methods` does not list" in message


def test_alpha_and_temperature_change_evenly_in_the_course_of_training():
    constant = params.load(FILE).distill
    assert constant.at(0) == constant.at(1) == (constant.alpha, constant.temperature)
    changing = constant.model_copy(update={"alpha": 1.0, "alpha_end": 0.5, "temperature": 4.0, "temperature_end": 2.0})
    assert changing.at(0) == (1.0, 4.0) and changing.at(0.5) == (0.75, 3.0) and changing.at(1) == (0.5, 2.0)


def test_a_temperature_that_changes_needs_all_logits(refused):
    message = refused(changed(("distill.temperature_end", 1.0), ("logits.top_k", 5)))
    assert "`distill.temperature_end` needs all logits" in message


@pytest.mark.parametrize("objective", ["standardised_kd", "dist", "logit_dist", "mse"])
def test_an_objective_that_takes_each_logit_needs_all_of_them(refused, load, objective):
    message = refused(changed(("distill.objective", objective), ("logits.top_k", 5)))
    assert f"`distill.objective` {objective} needs all logits; set `logits.top_k` to null" in message
    assert load(changed(("distill.objective", objective))).logits.top_k is None


def test_soft_ce_takes_the_targets_at_temperature_one_whatever_the_temperature_does(load):
    changes = [("distill.objective", "soft_ce"), ("distill.temperature", 4.0), ("distill.temperature_end", 1.5)]
    assert load(changed(*changes, ("logits.top_k", 5))).distill.target_temperature == 1.0
    assert load(changed(("distill.temperature", 4.0), ("logits.top_k", 5))).distill.target_temperature == 4.0


def test_images_lose_their_labels_only_beyond_so_many_that_keep_them(refused, load):
    wanted = [("data.train_samples", None), ("data.unlabelled_samples", 40)]
    assert "set `train_samples` to how many" in refused(changed(*wanted))
    assert load(changed(*wanted, ("data.train_samples", 20))).data.unlabelled_samples == 40


def test_dkd_takes_its_own_weights(load):
    settings = load(changed(("distill.objective", "dkd"), ("distill.weights", {"others": 2.0})))
    assert settings.distill.weights == {"others": 2.0}


@pytest.mark.parametrize("epochs", [None, 7])
def test_the_baseline_is_the_student_but_for_what_is_its_own(load, epochs):
    settings = load(changed(("baseline.epochs", epochs)))
    own = {"epochs": epochs or settings.student.epochs, "lr": settings.baseline.lr,
           "label_smoothing": settings.baseline.label_smoothing}  # fmt: skip
    assert settings.baseline_student() == settings.student.model_copy(update=own)


def test_a_baseline_that_ends_before_its_body_learns_is_refused(refused):
    sentence = refused(changed(("student.freeze_epochs", 2), ("baseline.epochs", 1)))
    assert "`baseline.epochs` is less than `student.freeze_epochs`, 2" in sentence


def test_an_unknown_teacher_is_refused_with_the_known_ones(settings):
    assert settings.teacher("big").model == "test_resnet"
    with pytest.raises(PipelineError, match=r"no teacher `small`; it has big"):
        settings.teacher("small")


def test_settings_cannot_be_changed(settings):
    with pytest.raises(ValueError):
        settings.seed = 1
