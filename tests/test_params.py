import io
import math
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline import params
from pipeline.project.errors import PipelineError

FILE = Path(__file__).parents[1] / "params.yaml"
MISSING = object()


@pytest.fixture
def refused(tmp_path):
    """The sentence that a text is refused with."""

    def attempt(text: str) -> str:
        (tmp_path / "params.yaml").write_text(text)
        with pytest.raises(PipelineError) as error:
            params.load(tmp_path / "params.yaml")
        return str(error.value)

    return attempt


def changed(*changes) -> str:
    """The repository's params.yaml with each (dotted key, value) of `changes` set, or dropped where MISSING."""
    document = YAML(typ="safe").load(FILE.read_text())
    for key, value in changes:
        *parents, last = key.split(".")
        block = document
        for parent in parents:
            block = block[parent]
        if value is MISSING:
            del block[last]
        else:
            block[last] = value
    text = io.StringIO()
    YAML(typ="safe").dump(document, text)
    return text.getvalue()


def teacher(**changes):
    return {"model": "test_resnet", "epochs": 1, "batch_size": 8, "lr": 0.1, **changes}


def test_the_repositorys_own_file_loads():
    settings = params.load(FILE)
    assert settings.model_dump() == YAML(typ="safe").load(FILE.read_text()) | {
        "teachers": {name: model.model_dump() for name, model in settings.teachers.items()},
        "student": settings.student.model_dump(),
        "distill": settings.distill.model_dump(),
    }


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("distill.temprature", 4, "`distill.temprature` is not a setting; did you mean `temperature`?"),
        ("sed", 1, "`sed` is not a setting; did you mean `seed`?"),
        ("teachers.resnet.batchsize", 8, "`teachers.resnet.batchsize` is not a setting; did you mean `batch_size`?"),
        ("student.xyz", 8, "`student.xyz` is not a setting; known here: backbone, batch_size, ema, epochs"),
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
        ("teachers.resnet.seeds", [1, 1], "`teachers.resnet.seeds` has the same entry twice."),
        ("teachers.resnet.seeds", [], "`teachers.resnet.seeds`"),
        ("views.count", 0, "`views.count`"),
        ("compute.accelerator", "tpu", "`compute.accelerator`"),
        ("benchmark.calls", {1: 10}, "`calls` needs an entry for batch 128"),
        ("benchmark.calls", {128: 10}, "`calls` needs an entry for batch 1,"),
        ("benchmark.calls", {1: 10, 128: 0}, "`benchmark.calls.128`"),
        ("seed", -1, "`seed`"),
        ("seed", 2**32, "`seed`"),
        ("seed", MISSING, "`seed` is missing."),
        ("distill.alpha", MISSING, "`distill.alpha` is missing."),
        ("views", MISSING, "`views` is missing."),
        ("student", [1], "`student` must be a block of `key: value` lines."),
    ],
    ids=lambda value: str(value)[:40] if value is not MISSING else "missing",
)
def test_a_bad_value_is_one_sentence_that_names_its_key(refused, key, value, sentence):
    if key == "teachers.../x":
        text = FILE.read_text().replace(
            "  resnet:", "  ../x: {model: resnet18, epochs: 1, batch_size: 8, lr: 1}\n  resnet:"
        )
    else:
        text = changed((key, value))
    message = refused(text)
    assert sentence in message
    assert len(message.splitlines()) == 1


def test_every_mistake_gets_its_sentence(refused):
    message = refused(changed(("distill.alpha", 2), ("seed", "x"), ("views.count", MISSING)))
    assert all(key in message for key in ("`distill.alpha`", "`seed`", "`views.count`"))
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
def settings(tmp_path):
    text = changed(("student_seeds", [3, 5]), ("distill.sources", ["ensemble"]), ("teachers", {"big": teacher()}))
    (tmp_path / "params.yaml").write_text(text)
    return params.load(tmp_path / "params.yaml")


def test_models_are_the_teachers_and_a_student_a_seed_and_arm(settings):
    assert settings.student_arms() == {
        "baseline": ["baseline-3", "baseline-5"],
        "ensemble": ["ensemble-3", "ensemble-5"],
    }
    assert settings.models() == ["big", "baseline-3", "baseline-5", "ensemble-3", "ensemble-5"]


def test_a_teacher_with_seeds_is_a_member_of_each(tmp_path):
    text = changed(("teachers", {"big": teacher(seeds=[0, 7]), "small": teacher()}))
    (tmp_path / "params.yaml").write_text(text)
    settings = params.load(tmp_path / "params.yaml")
    assert settings.members() == {"big-0": "big", "big-7": "big", "small": "small"}
    assert settings.teacher("big-7") == settings.teachers["big"]
    assert settings.models()[:3] == ["big-0", "big-7", "small"]


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


def test_dkd_takes_its_own_weights(tmp_path):
    text = changed(("distill.objective", "dkd"), ("distill.weights", {"others": 2.0}))
    (tmp_path / "params.yaml").write_text(text)
    assert params.load(tmp_path / "params.yaml").distill.weights == {"others": 2.0}


def test_the_control_arm_is_the_student_with_its_own_rate_and_smoothing(settings):
    control = settings.control()
    assert (control.lr, control.label_smoothing) == (settings.baseline.lr, settings.baseline.label_smoothing)
    same = {"lr": settings.student.lr, "label_smoothing": settings.student.label_smoothing}
    assert control.model_copy(update=same) == settings.student


def test_an_unknown_teacher_is_refused_with_the_known_ones(settings):
    assert settings.teacher("big").model == "test_resnet"
    with pytest.raises(PipelineError, match=r"no teacher `small`; it has big"):
        settings.teacher("small")


def test_settings_cannot_be_changed(settings):
    with pytest.raises(ValueError):
        settings.seed = 1
