"""The proposed profile: usable whatever the images are, and by hand where its rule says so."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import params
from pipeline.images import proposal, splits
from pipeline.images.proposal import Facts
from pipeline.images.sources import Source
from pipeline.project.data import Info
from pipeline.training import models
from tests import toys


def facts(**changes) -> Facts:
    """Of 2,000 photos of four classes in one folder a class."""
    plain = {"name": "flowers", "csv": "", "left": (600, 500, 500, 400), "val": (0,) * 4, "test": (0,) * 4, "side": 300}
    return Facts(**plain | changes)


def loaded(given: Facts, path) -> params.Params:
    path.write_text(proposal.profile(given), encoding="utf-8")
    return params.load_for_dvc(path)


@st.composite
def any_facts(draw: st.DrawFn) -> Facts:
    classes = draw(st.integers(2, 40))
    counts = st.lists(st.integers(1, 5000), min_size=classes, max_size=classes).map(tuple)
    printable = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="/\\"),
                        min_size=1, max_size=20).filter(str.strip)  # fmt: skip
    return Facts(
        name=draw(st.text(max_size=120)), csv=draw(st.just("") | printable), left=draw(counts),
        val=draw(st.just((0,) * classes) | counts), test=draw(st.just((0,) * classes) | counts),
        side=draw(st.integers(1, 9000)), gray=draw(st.booleans()), unlabelled=draw(st.integers(0, 10**6)),
        unreadable=draw(st.integers(0, 3)), gpu=draw(st.booleans()),
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(drawn=any_facts())
def test_any_images_get_a_whole_profile_that_says_what_is_known_of_them(drawn, tmp_path_factory):
    proposed = loaded(drawn, tmp_path_factory.getbasetemp() / "proposed.yaml")
    data, student = proposed.data, proposed.student
    assert (data.source, data.csv) == (("csv", drawn.csv) if drawn.csv else ("image_folder", "labels.csv"))
    assert data.path == "data/images" and data.image_size <= max(8, drawn.side)
    assert data.unlabelled == ("data/unlabelled" if drawn.unlabelled else "data/none/unlabelled")
    assert data.on_error == ("skip" if drawn.unreadable else "fail") and data.mode == ("gray" if drawn.gray else "auto")
    assert drawn.gpu or (data.image_size <= 64 and not student.backbone)
    assert proposed.student_views.count <= student.epochs <= 200
    assert (proposed.baseline.epochs is None) == (not drawn.unlabelled)
    assert all(reason.strip() for reason in proposal.reasons(drawn))


@settings(max_examples=40, deadline=None)
@given(counts=st.lists(st.integers(15, 400), min_size=2, max_size=12), seed=st.integers(0, 100))
def test_the_sizes_told_are_those_of_the_split_and_val_has_enough_of_every_class(counts, seed):
    given = facts(left=tuple(counts), val=(0,) * len(counts), test=(0,) * len(counts))
    told, labels = proposal.split(given), np.repeat(np.arange(len(counts)), counts)
    images, classes = np.zeros((len(labels), 8, 8, 1), np.uint8), [str(label) for label in range(len(counts))]
    source = Source(images, labels, classes, np.full(len(labels), ""))
    asked = toys.data_params(val_fraction=told["val_fraction"], test_fraction=told["test_fraction"])
    positions, _ = splits.split(source, asked, seed)
    assert len(positions["train"]) == told["train"] and len(positions["val"]) == told["val"]
    rarest = np.bincount(labels[positions["val"]]).min()
    assert rarest >= told["rarest"] >= 1


def test_two_thousand_photos_on_a_cpu_by_hand(tmp_path):
    """A fifth is test, a fifth of the rest val: 1,280 train, in steps of 64, at rates for 128 by the root of a half."""
    proposed = loaded(facts(), tmp_path / "own.yaml")
    assert proposed.data.image_size == 64 and proposed.views.shift == round(64 / 14)
    assert proposed.data.val_fraction == 0.2 and proposed.data.test_fraction == 0.2
    assert {name: (teacher.epochs, teacher.batch_size) for name, teacher in proposed.teachers.items()} == {
        "resnet": (50, 64), "deep_resnet": (38, 64), "byobnet": (56, 64)
    }  # fmt: skip
    assert proposed.student.epochs == round(120_000 / 1280) and proposed.student_views.count == 60_000 // 1280
    assert proposed.teachers["resnet"].lr == pytest.approx(0.006 * math.sqrt(0.5), rel=0.02)
    assert {teacher.stem_stride for teacher in proposed.teachers.values()} == {None}
    assert proposed.deploy.name == "flowers"


@pytest.mark.parametrize(
    ("changes", "size", "stride", "pretrained"),
    [
        ({"side": 28}, 28, 1, False),
        ({"side": 4}, 8, 1, False),
        ({"side": 50}, 50, None, False),
        ({"side": 28, "gpu": True}, 28, None, True),
        ({"side": 300, "gpu": True}, 224, None, True),
        ({"side": 96, "gpu": True, "left": (5000,) * 4}, 96, None, True),
        ({"side": 32, "gpu": True, "left": (5000,) * 4}, 32, 1, False),
    ],
)
def test_models_and_sizes_follow_side_number_and_device(tmp_path, changes, size, stride, pretrained):
    proposed = loaded(facts(**changes), tmp_path / "own.yaml")
    assert proposed.data.image_size == size
    assert {teacher.stem_stride for teacher in proposed.teachers.values()} == {stride}
    assert all((teacher.backbone is not None) == pretrained for teacher in proposed.teachers.values())


def test_with_unlabelled_images_the_student_alone_has_as_many_steps_as_the_taught_one(tmp_path):
    proposed = loaded(facts(unlabelled=8720), tmp_path / "own.yaml")
    assert proposed.student.epochs == 12 and proposed.baseline.epochs == 94
    assert proposed.student.epochs * (1280 + 8720) == pytest.approx(proposed.baseline.epochs * 1280, rel=0.01)


def test_the_teacher_in_the_comments_is_a_block_that_works(tmp_path):
    text, count = re.subn(r"^#(  (?:  )?\w+: ?.*)$", r"\1", proposal.profile(facts()), flags=re.MULTILINE)
    assert count == 7
    (tmp_path / "own.yaml").write_text(text)
    assert params.load_for_dvc(tmp_path / "own.yaml").teachers["resnet18"].backbone == "hf-hub:timm/resnet18.a1_in1k"


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("classes", [2, 1000])
def test_the_proposed_student_keeps_the_size_that_ships(tmp_path, classes, gpu):
    proposed = loaded(
        facts(left=(100,) * classes, val=(0,) * classes, test=(0,) * classes, gpu=gpu), tmp_path / "a.yaml"
    )
    student = proposed.student
    if gpu:  # the same net without its weights, which lie on the hub
        student = student.model_copy(update={"model": student.backbone.split("/")[1].split(".")[0], "backbone": None})
    net = models.build(student, Info([str(label) for label in range(classes)], 64, [0.5] * 3, [0.5] * 3, {}))
    weights = 4e-6 * sum(each.numel() for each in net.parameters())
    assert weights < proposed.deploy.constraints.size_mb < 1.5 * weights + 0.1
