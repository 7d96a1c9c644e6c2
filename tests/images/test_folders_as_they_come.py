"""Folders as people have them: nothing in them is left out, merged or turned black without a sentence."""

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from pipeline.images import checks, decoding, sources, splits
from pipeline.images.decoding import Reading
from pipeline.params import Data
from pipeline.project.data import UNLABELLED
from pipeline.project.errors import PipelineError
from stages import own_names
from tests import toys
from tests.conftest import CHECKOUT


def save(path: Path, image: Image.Image | None = None, **options) -> Path:
    """An image that differs from every other one in its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(list(str(path).encode())).integers(0, 256, (8, 8, 3), np.uint8)
    (image or Image.fromarray(pixels)).save(path, **options)
    return path


def plant(root: Path, *names: str) -> Path:
    for name in names:
        save(root / name)
    return root


def asked(root: Path, **changes) -> Data:
    return toys.data_params(**{"source": "image_folder", "path": str(root), **changes})


def load(root: Path, **changes) -> sources.Source:
    return sources.load(asked(root, **changes), root.parent / "raw")


def refused(root: Path, **changes) -> str:
    with pytest.raises(PipelineError) as error:
        load(root, **changes)
    return str(error.value)


def notes(source: sources.Source, **changes) -> list[str]:
    """What prepare says of the images."""
    positions, _ = splits.split(source, toys.data_params(**changes), seed=0)
    return checks.notes(source, checks.digests(source.images), positions)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "images"


def many(root: Path, count: int = 10, **classes: int) -> Path:
    for name in ("cat", "dog"):
        plant(root, *(f"{name}/{number}.png" for number in range(classes.get(name, count))))
    return root


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("Training", None, "Testing"), ("Train", "Val", "Test"), ("train", "valid", "test"),
     ("TRAIN", "validation", "TEST"), ("training", "dev", None)],
)  # fmt: skip
def test_splits_have_other_names_too(root, train, val, test):
    for split, count in ((train, 3), (val, 2), (test, 1)):
        if split:
            plant(root, *(f"{split}/{name}/{number}.png" for name in ("cat", "dog") for number in range(count)))
    source = load(root)
    assert source.classes == ["cat", "dog"]
    counted = {name: int((source.fixed == name).sum()) for name in ("", "val", "test")}
    assert counted == {"": 6, "val": 4 if val else 0, "test": 2 if test else 0}


def test_a_folder_beside_the_splits_is_named(root):
    plant(root, "train/cat/0.png", "train/dog/0.png", "extra/cat/1.png")
    assert "beside `extra`" in refused(root)


def test_two_folders_of_one_split_are_named(root):
    plant(root, "train/cat/0.png", "train/dog/0.png", "val/cat/1.png", "valid/cat/2.png")
    assert "has `val`, `valid`, names of one split" in refused(root)


def test_a_form_that_is_only_in_transparency_stays_visible(root):
    form = np.zeros((8, 8, 4), np.uint8)
    form[2:6, 2:6, 3] = 255
    save(many(root) / "cat/0.png", Image.fromarray(form))
    image = load(root).images[0]
    assert (image[2:6, 2:6] == 0).all() and image.sum() == 48 * 3 * 255
    assert (load(root, background="#0000ff").images[0][0, 0] == [0, 0, 255]).all()


@pytest.mark.parametrize(
    ("mode", "options", "expected"),
    [("LA", {}, 255), ("P", {"transparency": 9}, 255), ("RGBA", {}, 255), ("L", {"transparency": 9}, 255)],
)
def test_every_kind_of_transparency_shows_the_background(tmp_path, mode, options, expected):
    colour = {"LA": (9, 0), "P": 9, "RGBA": (9, 9, 9, 0), "L": 9}[mode]
    image = Image.new(mode, (8, 8), colour)
    if mode == "P":
        image.putpalette(bytes(3 * 256))
    path = save(tmp_path / "x.png", image, **options)
    assert (decoding.decode(path, Reading(8, "L")).pixels == expected).all()


def test_half_of_a_colour_is_half_of_the_background(tmp_path):
    path = save(tmp_path / "x.png", Image.new("RGBA", (8, 8), (255, 0, 0, 128)))
    assert decoding.decode(path, Reading(8, "RGB", "black")).pixels[0, 0].tolist() == [128, 0, 0]


def test_images_that_are_all_alike_are_refused(root):
    for number in range(40):
        save(root / ("cat", "dog")[number % 2] / f"{number}.png", Image.new("RGB", (8, 8)))
    with pytest.raises(PipelineError, match=r"All 40 images have the same pixels.*`data\.background`"):
        notes(load(root))


def test_a_class_of_constant_images_and_single_ones_are_named(root):
    many(root)
    for number in range(10):
        save(root / "void" / f"{number}.png", Image.new("RGB", (8, 8), (number, 0, 0)))
    save(root / "cat/0.png", Image.new("RGB", (8, 8), (0, 99, 0)))
    said = notes(load(root))
    assert "Every image of the class `void` has one colour alone." in said
    assert [f"1 image has one colour alone, such as {root / 'cat/0.png'}."] == [s for s in said if s.startswith("1 ")]


def table(root: Path, *rows: str, header: str = "path,label,split") -> Path:
    (root / "labels.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return root


def test_rows_of_train_stay_there_where_others_leave_their_split_open(root):
    many(root, 20)
    rows = [f"{name}/{n}.png,{name},{'train' if n < 10 else ''}" for name in ("cat", "dog") for n in range(20)]
    source = load(table(root, *rows), source="csv")
    parts, _ = splits.split(source, toys.data_params(), seed=0)
    held = np.flatnonzero(source.fixed == "train")
    assert len(held) == 20 and set(held) <= set(parts["train"])
    assert len(parts["test"]) == 4 and len(parts["val"]) == 4 and len(parts["train"]) == 32


@pytest.mark.parametrize("place", ["same", "inside", "around", "link"])
def test_images_without_labels_may_not_overlap_with_those_that_have_some(root, place):
    many(root)
    (root.parent / "link").symlink_to(root)
    other = {"same": root, "inside": root / "cat", "around": root.parent, "link": root.parent / "link"}[place]
    with pytest.raises(ValueError, match="which overlaps with `path`"):
        asked(root, unlabelled=str(other))


def test_a_linked_folder_is_refused_and_a_linked_file_is_read(root):
    plant(root.parent, "elsewhere/1.png", "elsewhere/2.png")
    many(root)
    (root / "cat/x.png").symlink_to(root.parent / "elsewhere/1.png")
    assert len(load(root).labels) == 21
    (root / "fox").symlink_to(root.parent / "elsewhere")
    assert "fox is a link to a folder" in refused(root)


@pytest.mark.parametrize("name", ["x.avif", "x.heic"])
def test_what_a_phone_writes_is_read(root, name):
    if name == "x.avif" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    save(many(root) / "cat" / name, Image.new("RGB", (16, 16), (200, 40, 10)))
    source = load(root)
    where = source.names.index(str(root / "cat" / name))
    assert np.abs(source.images[where].astype(int) - [200, 40, 10]).max() < 12


def test_files_of_other_suffixes_and_of_none_are_read_or_named(root):
    many(root)
    save(root / "cat/IMG_1", format="PNG")
    assert len(load(root).labels) == 21
    (root / "cat/scan.dcm").write_bytes(b"DICM")
    (root / "dog/video.mp4").write_bytes(b"ftyp")
    said = refused(root)
    assert "scan.dcm can't be read" in said and "video.mp4 can't be read" in said
    source = load(root, on_error="skip")
    assert len(source.skipped) == 2 and "2 files were left out" in notes(source)[-1]


def test_an_image_beside_the_class_folders_has_no_class(root):
    save(many(root) / "loose.jpg")
    assert "loose.jpg lies beside the folders of classes" in refused(root)
    assert len(load(root, on_error="skip").labels) == 20


def test_a_class_folder_without_a_file_is_named(root):
    (many(root) / "fox").mkdir()
    assert "fox holds no image" in refused(root)


@pytest.mark.parametrize("name", ["x.pgm", "x.png", "x.tif"])
def test_sixteen_bits_are_read_from_every_format(tmp_path, name):
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    if name == "x.pgm":
        (tmp_path / name).write_bytes(b"P5 8 8 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(tmp_path / name)
    decoded = decoding.decode(tmp_path / name, Reading(8, "L"))
    assert np.array_equal(decoded.pixels[..., 0], values >> 8) and decoded.brightest == 65535


def test_twelve_bits_in_sixteen_are_refused_unless_params_say_how_many_there_are(root):
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 65
    save(many(root) / "cat/0.png", Image.fromarray(values))
    assert "is 4,095 of 65,535" in refused(root) and "such as 12" in refused(root)
    assert np.array_equal(load(root, bits=12).images[0][..., 0], values >> 4)
    assert load(root, bits=16).images[0].max() == 15


def test_a_large_image_gives_no_warning_without_a_name(tmp_path):
    Image.new("1", (9_500, 9_500)).save(tmp_path / "large.png")
    code = "import sys; from pathlib import Path; from pipeline.images import decoding as d; "
    code += "print(d.decode(Path(sys.argv[1]), d.Reading(8, 'L')).pixels.shape)"
    ran = subprocess.run([sys.executable, "-c", code, tmp_path / "large.png"], cwd=CHECKOUT, capture_output=True)
    assert (ran.stdout, ran.stderr) == (b"(8, 8, 1)\n", b"")


def test_an_absolute_path_inside_the_folder_and_backslashes_and_blanks_are_read(root):
    many(root, 2)
    rows = [f"{root.absolute()}/cat/0.png,cat", r"cat\1.png,cat", r"dog\0.png , dog", "./dog/../dog/1.png,dog"]
    source = load(table(root, *rows, header="path, label"), source="csv")
    assert source.labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [("1", "1.0", "as text alone"), ("Cat", "cat", "upper and lower case"), ("01", "1", "as text alone"),
     (unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é"), "how accents are encoded")],
)  # fmt: skip
def test_classes_whose_names_say_the_same_are_refused(root, one, other, how):
    many(root, 2)
    rows = [f"cat/0.png,{one}", f"cat/1.png,{other}", "dog/0.png,dog"]
    said = refused(table(root, *rows, header="path,label"), source="csv")
    assert f"`{one}`" in said and f"`{other}`" in said and how in said


def test_images_below_a_table_that_it_does_not_name_are_counted(root):
    many(root, 3)
    rows = [f"{name}/{number}.png,{name}" for name in ("cat", "dog") for number in range(2)]
    (note,) = load(table(root, *rows, header="path,label"), source="csv").notes
    assert "2 of 6 images" in note and "cat/2.png" in note


@pytest.mark.parametrize("samples", range(52, 66))
def test_train_samples_means_at_most(root, samples):
    source = load(many(root, 50))
    parts, _ = splits.split(source, toys.data_params(train_samples=samples), seed=0)
    counts = np.bincount(source.labels[parts["train"]])
    assert len(parts["train"]) == min(samples, 64) and abs(counts[0] - counts[1]) <= 1


@pytest.mark.parametrize("count", [1, 2])
def test_a_class_too_small_for_every_split_is_named_by_prepare(root, count):
    with pytest.raises(PipelineError, match=rf"`dog`.*{count}"):
        splits.split(load(many(root, 40, dog=count)), toys.data_params(), seed=0)


def test_a_ready_made_val_that_lacks_a_class_is_refused_and_a_test_that_does_is_noted(root):
    plant(root, *(f"{split}/{name}/{n}.png" for split in ("train", "val") for name in ("cat", "dog") for n in "012"))
    save(root / "test/cat/9.png")
    (note,) = notes(load(root))
    assert "test has no image of 1 of 2 classes, such as `dog`" in note
    for number in "012":
        (root / "val/dog" / f"{number}.png").unlink()
    (root / "val/dog").rmdir()
    with pytest.raises(PipelineError, match="`dog` has 3 images in all and none in val"):
        notes(load(root))


def test_a_val_of_next_to_no_images_is_refused(root):
    with pytest.raises(PipelineError, match="val has 2 images"):
        splits.split(load(many(root, 6)), toys.data_params(), seed=0)


def test_three_images_against_a_thousand_are_in_every_split_or_named(root):
    source = load(many(root, 300, dog=3))
    try:
        parts, _ = splits.split(source, toys.data_params(val_fraction=0.3, test_fraction=0.3), seed=0)
    except PipelineError as error:
        assert "`dog`" in str(error)
    else:
        assert all(set(source.labels[ids]) == {0, 1} for ids in parts.values())


def test_a_name_that_is_no_text_is_named_before_dvc_ends_on_it(root):
    many(root)
    (root / "cat/0.png").rename(root / os.fsdecode(b"cat/caf\xe9.png"))
    with pytest.raises(PipelineError, match=r"caf\\udce9\.png has a name that is no UTF-8 text"):
        own_names.check(asked(root))


def test_numbers_are_in_the_order_of_people(root):
    plant(root, *(f"{number}/0.png" for number in (1, 2, 10, 11)), "x10/0.png", "x9/0.png")
    assert load(root).classes == ["1", "2", "10", "11", "x9", "x10"]


def test_a_tilde_is_no_folder():
    with pytest.raises(ValueError, match="~ stands for no folder"):
        toys.data_params(path="~/flowers")


def test_duplicates_between_splits_are_a_sentence(root):
    many(root, 20)
    plant(root, "cat/x.png", "dog/x.png")
    for number in range(20):
        for name in ("cat", "dog"):
            (root / name / f"copy{number}.png").write_bytes((root / name / "x.png").read_bytes())
    said = notes(load(root))
    assert any("of test are, pixel for pixel, also in train: accuracy on test is flattered" in note for note in said)


def test_one_duplicate_of_many_images_is_no_sentence():
    digests = np.arange(1000, dtype=np.uint64)
    digests[900] = 0
    assert checks._of_duplicates(digests, {"train": np.arange(800), "val": np.arange(800, 900),
                                           "test": np.arange(900, 1000)}) == []  # fmt: skip


def test_the_same_pixels_under_two_labels_are_named(root):
    many(root, 20)
    (root / "dog/same.png").write_bytes((root / "cat/0.png").read_bytes())
    (root / "dog/again.png").write_bytes((root / "dog/1.png").read_bytes())
    (said,) = [note for note in notes(load(root)) if "another class" in note]
    assert said.startswith("2 images have the same pixels")
    assert f"{root / 'cat/0.png'} is `cat`, {root / 'dog/same.png'} is `dog`" in said


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("by", ["prefix", "folder", "column"])
def test_what_belongs_together_is_in_one_split(root, by, seed):
    names = [f"{name}/{'p' + str(p) + '/' if by == 'folder' else ''}p{p}_{n}.png"
             for name in ("cat", "dog") for p in range(12) for n in range(3)]  # fmt: skip
    plant(root, *names)
    rows = [f"{name},{name[:3]},{name.split('/')[-1].partition('_')[0]}" for name in names]
    source = load(table(root, *rows, header="path,label,group") if by == "column" else root,
                  source="csv" if by == "column" else "image_folder", group=by)  # fmt: skip
    parts, _ = splits.split(source, toys.data_params(), seed)
    groups = [set(source.groups[ids]) for ids in parts.values()]
    assert sum(map(len, groups)) == 12 == len(set.union(*groups))
    assert all(set(source.labels[ids]) == {0, 1} for ids in parts.values())
    assert sorted(np.concatenate(list(parts.values()))) == list(range(72))


def test_groups_that_ready_made_splits_tear_apart_are_noted(root):
    plant(root, *(f"{split}/{name}/p{n}_{split}.png" for split in ("train", "val", "test")
                  for name in ("cat", "dog") for n in range(3)))  # fmt: skip
    said = notes(load(root, group="prefix"))
    assert any("3 groups are in train and in test, such as `p0`" in note for note in said)


def test_a_whole_image_is_squeezed_into_a_square_and_its_aspect_kept(root):
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 255
    save(many(root) / "cat/0.png", Image.fromarray(wide))
    source = load(root, image_size=8)
    images, aspects = source.whole(np.array([0, 1]), 24)
    assert images.shape == (2, 24, 24, 3) and aspects.tolist() == [3.0, 1.0]
    assert (images[0, :, 10:14] == 255).all() and images[0, :, :6].max() == 0
    assert (source.images[0] == 255).all()


def test_unlabelled_images_have_names_and_no_label(root):
    save(root.parent / "more/a.png")
    source = load(many(root), unlabelled=str(root.parent / "more"))
    assert source.names[-1] == str(root.parent / "more/a.png") and source.labels[-1] == UNLABELLED


def test_whoever_reads_enough_ends_a_command_without_a_word():
    code = "from pipeline.project import errors; errors.run(lambda: [print(n) for n in range(100_000)] and None)"
    command = f'"{sys.executable}" -c "{code}" | head -1'
    ran = subprocess.run(command, shell=True, cwd=CHECKOUT, capture_output=True, text=True)  # noqa: S602
    assert (ran.stdout, ran.stderr) == ("0\n", "")
