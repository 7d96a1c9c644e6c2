"""Your own images: every oddity of a file, a csv that says the same as folders, torchvision's sets, what is skipped."""

import http.client
import json
import os
import random
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.images import decoding, sources, splits
from pipeline.images.decoding import Decoded, Reading
from pipeline.project import data
from pipeline.project.errors import PipelineError
from tests import toys

LEFT, RIGHT = (250, 0, 0), (0, 0, 250)  # what upright pictures are made of
READING = Reading(16, "RGB")
ROTATED = Image.Exif()
ROTATED[0x0112] = 6  # turn by 90 degrees to the right to see it upright


def halves(size: tuple[int, int] = (24, 24)) -> Image.Image:
    picture = Image.new("RGB", size, LEFT)
    picture.paste(RIGHT, (size[0] // 2, 0, *size))
    return picture


def save(path: Path, image: Image.Image | None = None, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or halves()).save(path, **options)
    return path


def load(root: Path, **changes):
    asked = toys.data_params(**{"source": "image_folder", "path": str(root), **changes})
    return sources.load(asked, root.parent / "raw")


@pytest.fixture
def root(tmp_path):
    """Two classes of four files."""
    for number, (name, shade) in enumerate((name, 60 * k) for name in ("cat", "dog") for k in range(4)):
        save(tmp_path / "images" / name / f"{number}.png", Image.new("RGB", (10, 14), (shade, 20, number)))
    return tmp_path / "images"


GRAY = np.repeat([76, 28], 12)  # ITU-R 601 luma of the two halves, 0.299 · 250 = 74.75 and 0.114 · 250 = 28.5
ODD = {
    "turned by its EXIF": ("x.jpg", lambda: halves().transpose(Image.Transpose.ROTATE_90), {"exif": ROTATED}),
    "a palette": ("x.png", lambda: halves().convert("P", palette=Image.Palette.ADAPTIVE), {}),
    "CMYK": ("x.jpg", lambda: halves().convert("CMYK"), {"quality": 95}),
    "with alpha": ("x.png", lambda: halves().convert("RGBA"), {}),
    "GIF": ("x.gif", halves, {}),
    "WebP": ("x.webp", halves, {"lossless": True}),
    "BMP": ("x.bmp", halves, {}),
    "TIFF": ("x.tiff", halves, {"compression": "tiff_lzw"}),
    "JPEG": ("x.JPG", halves, {"quality": 95}),
    "another suffix than its format": ("x.png", halves, {"format": "JPEG", "quality": 95}),
    "a unicode name": ("ünï 名.png", halves, {}),
    "in folders of folders": ("a/b.c/d/x.png", halves, {}),
}


@pytest.mark.parametrize(("name", "make", "options"), ODD.values(), ids=ODD)
def test_an_odd_file_shows_what_it_shows_elsewhere(root, name, make, options):
    path = save(root / "cat" / name, make(), **options)
    source = load(root, image_size=24)
    where = decoding.files_below(root).index(path)
    wanted = np.asarray(halves(), int)
    inner = np.r_[1:10, 14:23]  # JPEG's blocks bleed where the colours meet
    assert np.abs(source.images[where].astype(int) - wanted)[:, inner].max() <= 12
    assert source.classes[source.labels[where]] == "cat" and len(source.labels) == 9


def test_sixteen_bits_and_gray_become_three_equal_channels(root):
    gray = np.arange(576, dtype=np.uint16).reshape(24, 24) // 3
    save(root / "cat/9a.png", Image.fromarray(gray * 257))
    save(root / "cat/9b.png", Image.fromarray(gray.astype(np.uint8)))
    images = load(root, image_size=24).images[4:6]
    assert np.array_equal(images, np.repeat(gray[None, :, :, None], 2, 0).repeat(3, 3))


@pytest.mark.parametrize(("mode", "channels"), [("auto", 3), ("colour", 3), ("gray", 1)])
def test_a_folder_has_the_channels_asked_for(root, mode, channels):
    save(root / "cat/9.png", halves())
    images = load(root, mode=mode, image_size=24).images
    assert images.shape == (9, 24, 24, channels)
    if mode == "gray":
        assert np.abs(images[4, 0, :, 0].astype(int) - GRAY).max() <= 2


@pytest.mark.parametrize(("mode", "channels"), [("auto", 1), ("gray", 1), ("colour", 3)])
def test_a_gray_source_has_the_channels_asked_for(tmp_path, mode, channels):
    images = sources.load(toys.data_params(mode=mode), tmp_path).images
    gray = sources.load(toys.data_params(), tmp_path).images
    assert np.array_equal(images, np.repeat(gray, channels, 3))


def test_reading_by_many_threads_gives_the_bytes_of_reading_one_by_one(root):
    random = np.random.default_rng(0)
    for number in range(150):
        pixels = random.integers(0, 256, (*random.integers(5, 60, 2), 3), np.uint8)
        save(root / "cat" / f"more{number}.jpg", Image.fromarray(pixels))
    paths = decoding.files_below(root)
    expected = np.stack([decoding.decode(path, READING).pixels for path in paths])
    assert np.array_equal(load(root, image_size=16).images, expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(1, 9), st.sets(st.integers(0, 39)))
def test_whatever_is_read_comes_in_order_and_what_is_not_is_its_error(count, batch, broken):
    def read(position):
        if position in broken:
            raise PipelineError(str(position))
        return Decoded(np.full(1, position), 1.0, 0)

    answers = list(decoding.each(read, count, batch))
    assert [str(each) if isinstance(each, PipelineError) else each.pixels[0] for each in answers] == [
        str(position) if position in broken else position for position in range(count)
    ]


def test_reading_is_never_far_ahead_of_who_asks():
    read, lock = [], threading.Lock()

    def counted(position):
        with lock:
            read.append(position)
        return Decoded(np.zeros(1), 1.0, 0)

    made = decoding.each(counted, 10_000, 2)
    for _ in range(50):
        next(made)
    cores = len(os.sched_getaffinity(0))
    assert len(read) <= 50 + 2 * (2 * cores + 1)
    made.close()


def test_the_pixels_are_in_a_mapped_file_that_nobody_sees(root):
    images = load(root).images
    assert isinstance(images, np.memmap) and not list((root.parent / "raw").iterdir())


def listed(root: Path) -> list[Path]:
    """The images below, in the order of the data."""
    return [path for path in decoding.files_below(root) if path.suffix != ".csv"]


def table(root: Path, rows: list[str], header: str = "path,label", name: str = "labels.csv") -> Path:
    path = root / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def equal(first, second) -> bool:
    return (
        first.classes == second.classes
        and all(np.array_equal(getattr(first, key), getattr(second, key)) for key in ("images", "labels", "fixed"))
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_a_csv_in_any_order_is_the_folder_that_it_describes(root, seed):
    save(root / "cat/ü, 名.jpg")
    rows = [f'"{path.relative_to(root)}",{path.parts[-2]}' for path in listed(root)]
    table(root, random.Random(seed).sample(rows, len(rows)))
    assert equal(load(root, source="csv"), load(root))


def test_a_csv_with_splits_is_the_folder_that_it_describes(root):
    for split in ("train", "val", "test"):
        shutil.copytree(root / "cat", root / split / "cat")
        shutil.copytree(root / "dog", root / split / "dog")
    for name in ("cat", "dog"):
        shutil.rmtree(root / name)
    rows = [f"{path.relative_to(root)},{path.parts[-2]},{path.parts[-3]}" for path in listed(root)]
    table(root, rows[::-1], "path,label,split")
    source = load(root, source="csv")
    assert equal(source, load(root))
    assert {name: (source.fixed == name).sum() for name in ("", "val", "test")} == {"": 8, "val": 8, "test": 8}


def test_a_csv_may_come_from_a_spreadsheet_under_another_name(root):
    rows = [f" {path.relative_to(root)} , {path.parts[-2]},\r" for path in decoding.files_below(root)]
    path = table(root, rows, "path,label,split\r", "mine.csv")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert equal(load(root, source="csv", csv="mine.csv"), load(root))


def test_what_can_not_be_read_fails_with_the_name_of_each(root):
    for name in ("cat/0.png", "cat/1.png", "dog/5.png"):
        (root / name).write_bytes(b"")
    with pytest.raises(PipelineError) as refused:
        load(root)
    *files, advice = str(refused.value).splitlines()
    assert [line.split(" can't")[0].strip() for line in files] == [
        str(root / name) for name in ("cat/0.png", "cat/1.png", "dog/5.png")
    ]
    assert "`data.on_error: skip` leaves out" in advice


def test_of_many_that_can_not_be_read_twenty_are_named(root):
    for number in range(25):
        (root / "cat" / f"x{number}.png").write_bytes(b"")
    with pytest.raises(PipelineError, match=r"(?s)x19\.png can't be read.*\n +5 more can't be used\.\n"):
        load(root)


def test_what_can_not_be_read_is_skipped_and_listed(root):
    whole = load(root)
    jpeg = save(root / "dog/9.jpg")
    jpeg.write_bytes(jpeg.read_bytes()[:300])
    (root / "cat/00.png").write_bytes(b"")
    source = load(root, on_error="skip")
    assert equal(source, whole)
    assert ["00.png" in source.skipped[0], "9.jpg" in source.skipped[1]] == [True, True] and len(source.skipped) == 2


def test_a_skipped_file_whose_name_is_no_text_is_listed_in_json(root):
    (root / "cat/r\udcff.png").write_bytes(b"")
    (said,) = load(root, on_error="skip").skipped
    assert "cat/r\\udcff.png" in json.loads(json.dumps(said, ensure_ascii=False).encode())


def test_unlabelled_images_that_can_not_be_read_are_skipped_too(root):
    more = root.parent / "more"
    save(more / "1.png")
    (more / "0.png").write_bytes(b"no image")
    source = load(root, on_error="skip", unlabelled=str(more))
    assert source.labels.tolist() == [0] * 4 + [1] * 4 + [data.UNLABELLED] and len(source.skipped) == 1
    assert len(source.images) == len(source.fixed) == 9


def test_a_class_of_which_all_was_skipped_is_named(root):
    for path in (root / "dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(PipelineError, match="class `dog` is left"):
        load(root, on_error="skip")


def test_classes_much_rarer_than_others_are_in_every_split(root):
    for number in range(200):
        save(root / "cat" / f"more{number}.png", Image.new("RGB", (8, 8), (number, 0, 0)))
    source = load(root)
    parts, _ = splits.split(source, toys.data_params(val_fraction=0.3, test_fraction=0.3), seed=0)
    assert all(set(source.labels[ids]) == {0, 1} for ids in parts.values())


class Toys:
    """A data set as torchvision has them."""

    classes = ("dark", ("bright", "light"))

    def __init__(self, root, split="train", transform=None, target_transform=None, download=False):
        if split not in ("train", "valid", "test"):
            raise ValueError(f"Unknown value '{split}' for argument split. Valid values are {{train, valid, test}}.")
        assert download
        self.seed, self.count = {"train": (0, 6), "valid": (1, 4), "test": (2, 2)}[split]
        self.images = toys.images(self.count, size=8, seed=self.seed)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return Image.fromarray(self.images[index, :, :, 0]), index % 2


@pytest.fixture
def set_of_toys(monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "Toys", Toys, raising=False)
    monkeypatch.setattr(torchvision.datasets, "__all__", (*torchvision.datasets.__all__, "Toys"))


def test_a_data_set_of_torchvision_keeps_its_splits_classes_and_gray(tmp_path, set_of_toys):
    source = sources.load(toys.data_params(source="torchvision:Toys"), tmp_path)
    assert source.classes == ["dark", "bright"]
    assert source.fixed.tolist() == [""] * 6 + ["val"] * 4 + ["test"] * 2
    assert source.labels.tolist() == [0, 1] * 6
    assert np.array_equal(source.images, np.concatenate([toys.images(n, seed=s) for s, n in enumerate((6, 4, 2))]))


def test_classes_without_names_have_their_numbers(tmp_path, set_of_toys, monkeypatch):
    monkeypatch.setattr(Toys, "classes", None)
    assert sources.load(toys.data_params(source="torchvision:Toys"), tmp_path).classes == ["0", "1"]


def test_samples_that_are_no_images_with_a_class_are_refused(tmp_path, set_of_toys, monkeypatch):
    monkeypatch.setattr(Toys, "__getitem__", lambda self, index: (Image.new("L", (8, 8)), [1, 2]))
    with pytest.raises(PipelineError, match="no images with a class each"):
        sources.load(toys.data_params(source="torchvision:Toys"), tmp_path)


def test_torchvisions_own_mnist_is_read_from_the_files_that_are_there(tmp_path):
    folder, images = tmp_path / "torchvision/MNIST/raw", {}
    folder.mkdir(parents=True)
    for seed, (split, count) in enumerate((("train", 20), ("t10k", 10))):
        images[split] = toys.images(count, size=28, seed=seed)
        sizes = np.array([count, 28, 28], ">i4").tobytes()
        (folder / f"{split}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + sizes + images[split].tobytes())
        labels = bytes(number % 10 for number in range(count))
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + sizes[:4] + labels)
    source = sources.load(toys.data_params(source="torchvision:MNIST", image_size=28), tmp_path)
    assert np.array_equal(source.images, np.concatenate(list(images.values())))
    assert source.labels.tolist() == list(range(10)) * 3 and source.classes[3] == "3 - three"
    assert source.fixed.tolist() == [""] * 20 + ["test"] * 10


@pytest.mark.parametrize("name", ["CIFAR11", "EMNIST", "DatasetFolder", "os", "__name__"])
def test_what_torchvision_has_not_is_refused_with_what_is_close(tmp_path, name):
    with pytest.raises(PipelineError, match=r"no data set of torchvision .* did you mean torchvision:"):
        sources.load(toys.data_params(source=f"torchvision:{name}"), tmp_path)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("Name or service not known"), r"Name or service not known"),
        (RuntimeError("Error downloading:\nTried one"), r"Error downloading: Tried one"),
        (http.client.IncompleteRead(b"half"), r"IncompleteRead\(4 bytes read\)"),
    ],
)
def test_a_data_set_that_can_not_be_fetched_is_one_sentence(tmp_path, set_of_toys, monkeypatch, error, said):
    def unreachable(self, root, split="train", download=False):
        raise error

    monkeypatch.setattr(Toys, "__init__", unreachable)
    with pytest.raises(PipelineError, match=rf"torchvision:Toys can't be fetched \({said}\)"):
        sources.load(toys.data_params(source="torchvision:Toys"), tmp_path)
