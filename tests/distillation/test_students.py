"""What a taught student minimises, and that it differs from the baseline in nothing else."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.distillation.objectives import kd
from pipeline.distillation.students import check_classes, taught_loss
from pipeline.params import Distill
from pipeline.project import data, files, paths
from pipeline.project.data import UNLABELLED
from pipeline.project.errors import PipelineError
from pipeline.project.randomness import derive
from pipeline.training.loop import Lesson, Trainer
from pipeline.training.losses import label_loss
from pipeline.training.views import Views
from stages import distill, train_baseline
from tests import toys

STUDENT = torch.tensor([[1.0, 0.0], [-0.5, 1.5]], dtype=torch.float64)
TEACHER = torch.tensor([[2.0, -1.0], [0.5, 0.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 1])


def loss(alpha, temperature, rows=slice(None), soft=TEACHER, smoothing=0.0, class_weights=None, done=0.0, **changes):
    params = toys.block(Distill, "distill", sources=["single"], alpha=alpha, temperature=temperature, **changes)
    soft = None if soft is None else soft[rows]
    return taught_loss(params, smoothing, class_weights)(STUDENT[rows], LABELS[rows], soft, done)


def test_the_loss_is_the_value_computed_by_hand():
    # One sample: softened probabilities sigmoid(0.5) and sigmoid(1.5) at T = 2, label probability sigmoid(1).
    student, teacher = 0.6224593312018546, 0.8175744761936437
    divergence = teacher * math.log(teacher / student) + (1 - teacher) * math.log((1 - teacher) / (1 - student))
    expected = 0.7 * 4 * divergence + 0.3 * -math.log(0.7310585786300049)
    assert loss(0.7, 2.0, rows=slice(1)).item() == pytest.approx(expected, rel=1e-12)


def test_it_is_the_mean_over_the_batch():
    singles = [loss(0.7, 2.0, rows=slice(row, row + 1)).item() for row in range(2)]
    assert loss(0.7, 2.0).item() == pytest.approx(sum(singles) / 2, rel=1e-12)


def test_alpha_one_is_the_soft_term_alone():
    assert loss(1.0, 3.0).item() == kd(STUDENT, TEACHER, 3.0).item()


@pytest.mark.parametrize("soft", [TEACHER, None], ids=["a teacher", "no teacher"])
def test_alpha_zero_is_the_label_loss_to_the_bit(soft):
    assert torch.equal(loss(0.0, 3.0, soft=soft), label_loss(STUDENT, LABELS))


def test_smoothing_and_class_weights_reach_the_label_term():
    weights = torch.tensor([0.5, 2.0])
    expected = 0.25 * kd(STUDENT, TEACHER, 3.0) + 0.75 * label_loss(STUDENT, LABELS, 0.2, weights)
    assert loss(0.25, 3.0, smoothing=0.2, class_weights=weights).item() == pytest.approx(expected.item(), rel=1e-12)


def test_alpha_and_temperature_are_those_of_the_share_of_training_that_is_done():
    changing = {"alpha_end": 0.5, "temperature_end": 2.0}
    assert loss(1.0, 4.0, done=0.5, **changing).item() == loss(0.75, 3.0).item()


def test_objective_and_weights_are_those_of_params():
    dkd = loss(1.0, 2.0, objective="dkd").item()  # of two classes, which have no term for the others
    assert loss(1.0, 2.0, objective="dkd", weights={"target": 3.0}).item() == pytest.approx(3 * dkd, rel=1e-12)


WITHOUT_GRADIENT = [
    ("standardised_kd", {}),
    ("dkd", {"target": 0.0}),
    ("dist", {"intra": 0.0}),
    ("logit_dist", {"intra": 0.0}),
]


@pytest.mark.parametrize(("objective", "weights"), WITHOUT_GRADIENT)
def test_what_has_no_gradient_with_two_classes_is_refused(objective, weights):
    asked = toys.block(Distill, "distill", sources=["single"], objective=objective, weights=weights)
    with pytest.raises(PipelineError, match=f"`distill.objective` is {objective}, which has no gradient with two"):
        check_classes(asked, 2)
    check_classes(asked, 3)
    student = STUDENT.clone().requires_grad_()
    taught_loss(asked.model_copy(update={"alpha": 1.0}), 0.0, None)(student, LABELS, TEACHER, 0.0).backward()
    assert student.grad.abs().max() < 1e-6


@pytest.mark.parametrize("objective", ["kd", "dkd", "dist", "logit_dist", "mse", "soft_ce"])
def test_the_other_objectives_teach_two_classes(objective):
    asked = toys.block(Distill, "distill", sources=["single"], objective=objective, alpha=1.0)
    check_classes(asked, 2)
    student = torch.randn(16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    teacher = torch.randn(16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    taught_loss(asked, 0.0, None)(student, torch.arange(16) % 2, teacher, 0.0).backward()
    assert student.grad.abs().max() > 1e-3


def test_the_stage_refuses_them_before_it_trains(prepare, monkeypatch):
    with pytest.raises(PipelineError, match="no gradient with two classes"):
        trained(monkeypatch, distill, "ensemble", "0", objective="standardised_kd")
    assert not paths.weights("ensemble-0").exists()


TARGETS = np.random.default_rng(0).normal(0, 2, (2, 40, 2)).astype(np.float16)
MODEL = {"model": "test_resnet", "kwargs": toys.KWARGS, "precision": "fp32", "epochs": 2, "batch_size": 8, "lr": 0.01}


def trained(monkeypatch, stage, *words, student=None, alpha=0.9, temperature=2.0, objective="kd", views="new"):
    """The weights that one of the stages leaves, which logs nothing here."""
    settings = toys.settings(
        compute={"accelerator": "cpu"},
        views={"shift": 1, "flip": True},
        student=MODEL | (student or {}),
        student_views={"count": 2},
        baseline={
            "lr": MODEL["lr"],
            "label_smoothing": (student or {}).get("label_smoothing", 0.0),
            "views": views,
        },
        distill={"sources": ["ensemble"], "objective": objective, "alpha": alpha, "temperature": temperature},
    )
    monkeypatch.setattr(stage, "start_stage", lambda *_: (None, settings))
    stage.main(*words)
    return load_file(paths.weights("-".join(words if stage is distill else ("baseline", *words))))


@pytest.fixture
def prepare(project):
    """Prepares so many images, of which those after the first 20 have no label, with a teacher's answers."""

    def write(samples):
        labelled, more, val = toys.split(20), toys.split(samples - 20, seed=3), toys.split(8, seed=1)
        images = np.concatenate([labelled.images, more.images, val.images])
        labels = np.concatenate([labelled.labels, np.full(len(more), UNLABELLED), val.labels])
        splits = {"train": np.arange(samples), "val": np.arange(samples, samples + 8)}
        info = data.save(images, labels, toys.INFO.classes, splits, paths.PREPARED)
        fixed = {"mean": toys.INFO.mean, "std": toys.INFO.std}  # or more images would change every pixel
        files.write_json(paths.PREPARED / "dataset.json", vars(info) | fixed)
        files.write_array(paths.targets("ensemble"), TARGETS[:, :samples])

    write(20)
    return write


def same_bits(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("student", [{}, {"label_smoothing": 0.1}], ids=["plain", "smoothed"])
def test_a_student_of_alpha_zero_is_the_baseline_bit_for_bit(prepare, monkeypatch, student):
    taught = trained(monkeypatch, distill, "ensemble", "0", alpha=0.0, student=student)
    assert same_bits(taught, trained(monkeypatch, train_baseline, "0", student=student))


@pytest.mark.parametrize(("views", "equal"), [("cached", True), ("new", False)])
def test_the_baseline_sees_new_views_or_those_of_the_student(prepare, monkeypatch, views, equal):
    """In six epochs of a student that has two views of each image."""
    student = {"epochs": 6}
    taught = trained(monkeypatch, distill, "ensemble", "0", alpha=0.0, student=student)
    assert same_bits(taught, trained(monkeypatch, train_baseline, "0", student=student, views=views)) == equal


def test_a_teacher_makes_a_difference(prepare, monkeypatch):
    taught = trained(monkeypatch, distill, "ensemble", "0", alpha=0.5)
    assert not same_bits(taught, trained(monkeypatch, train_baseline, "0"))


@pytest.mark.parametrize(("stage", "words"), [(distill, ("ensemble",)), (train_baseline, ())])
def test_students_of_other_seeds_differ(prepare, monkeypatch, stage, words):
    first, second = (trained(monkeypatch, stage, *words, seed) for seed in ("0", "1"))
    assert not same_bits(first, second)


def test_a_student_equals_the_training_loop_with_kd(prepare, monkeypatch):
    taught = trained(monkeypatch, distill, "ensemble", "0", alpha=1.0, temperature=4.0)
    seed = derive(0, "student", 0)
    views = Views(seed=derive(0, "views"), count=2, shift=1, flip=True, erase=0.0)
    lesson = Lesson(
        toys.split(20), np.arange(20), views, lambda logits, labels, soft, done: kd(logits, soft, 4.0),
        lambda view, ids: TARGETS[view, ids].astype(np.float32),
    )  # fmt: skip
    model = toys.classifier(seed)
    settings = toys.training(weight_decay=toys.DEFAULTS["student"]["weight_decay"])
    Trainer(model, settings, lesson, toys.CPU, seed=seed, name="toy").fit(toys.split(8, seed=1))
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, taught[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("alpha", "equal"), [(0.0, True), (0.5, False)])
def test_images_without_labels_change_a_student_where_a_teacher_speaks(prepare, monkeypatch, alpha, equal):
    alone = trained(monkeypatch, distill, "ensemble", "0", alpha=alpha)
    prepare(40)
    assert same_bits(alone, trained(monkeypatch, distill, "ensemble", "0", alpha=alpha)) == equal


def test_images_without_labels_do_not_change_the_baseline(prepare, monkeypatch):
    alone = trained(monkeypatch, train_baseline, "0")
    prepare(40)
    assert same_bits(alone, trained(monkeypatch, train_baseline, "0"))
