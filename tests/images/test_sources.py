import gzip
import hashlib
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image

from pipeline.images import fashion_mnist, sources
from pipeline.project.data import UNLABELLED
from pipeline.project.errors import PipelineError
from tests import toys

FASHION_FILES = list(fashion_mnist.FILES)


def picture(path: Path, colour, mode: str = "RGB", size: tuple[int, int] = (12, 12)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


def load_folder(root: Path, size: int = 8):
    return sources.load(
        toys.data_params(source="image_folder", path=str(root), image_size=size), root.with_name(f"{root.name}-raw")
    )


@pytest.fixture
def two_classes(tmp_path):
    for number in range(2):
        picture(tmp_path / f"red/{number}.png", (200, 0, 0))
        picture(tmp_path / f"blue/{number}.png", (0, 0, 200))
    return tmp_path


def test_digits_are_ten_classes_of_the_size_asked_for(tmp_path):
    source = sources.load(toys.data_params(image_size=16), tmp_path)
    assert (source.images.shape, source.images.dtype) == ((1797, 16, 16, 1), np.uint8)
    assert source.labels.dtype == np.int64
    assert source.classes == list("0123456789") and set(source.labels) == set(range(10))
    assert set(source.fixed) == {""}


def test_digits_at_their_own_size_keep_their_17_grey_levels(tmp_path):
    images = sources.load(toys.data_params(image_size=8), tmp_path).images
    assert len(np.unique(images)) == 17 and images.max() == 255


def test_class_folders_are_sorted_classes(two_classes):
    source = load_folder(two_classes)
    assert source.classes == ["blue", "red"]
    assert source.labels.tolist() == [0, 0, 1, 1] and source.labels.dtype == np.int64
    assert (source.images[:2] == [0, 0, 200]).all() and (source.images[2:] == [200, 0, 0]).all()
    assert set(source.fixed) == {""}


@pytest.mark.parametrize(
    ("name", "mode", "colour", "expected"),
    [
        ("x.png", "L", 90, (90, 90, 90)),
        ("x.png", "RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("x.png", "1", 1, (255, 255, 255)),
        ("x.jpg", "RGB", (120, 120, 120), (120, 120, 120)),
        ("x.JPEG", "L", 60, (60, 60, 60)),
        ("x.bmp", "RGB", (1, 2, 3), (1, 2, 3)),
    ],
)
def test_every_kind_of_image_becomes_rgb(two_classes, name, mode, colour, expected):
    picture(two_classes / "green" / name, colour, mode)
    source = load_folder(two_classes)
    assert source.images[source.labels == 1].reshape(-1, 3).tolist() == [list(expected)] * 64


@pytest.mark.parametrize("size", [(8, 8), (40, 10), (3, 25), (1, 1)])
def test_images_of_any_size_become_squares(two_classes, size):
    picture(two_classes / "red/other.png", (200, 0, 0), size=size)
    source = load_folder(two_classes)
    assert source.images.shape == (5, 8, 8, 3)
    assert (source.images[source.labels == 1] == [200, 0, 0]).all()


def test_a_wide_image_keeps_its_middle(two_classes):
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 255
    Image.fromarray(wide).save(two_classes / "red/9.png")
    assert (load_folder(two_classes).images[-1] == 255).all()


def test_train_val_and_test_folders_fix_the_splits(tmp_path):
    for split, count in {"train": 3, "val": 2, "test": 1}.items():
        for name in ("cat", "dog"):
            for number in range(count):
                picture(tmp_path / split / name / f"{number}.png", (9, 9, 9))
    source = load_folder(tmp_path)
    assert source.classes == ["cat", "dog"]
    assert {name: (source.fixed == name).sum() for name in ("", "val", "test")} == {"": 6, "val": 4, "test": 2}


def test_a_file_of_a_class_that_is_no_image_is_named(two_classes):
    (two_classes / "red/notes.txt").write_text("red ones")
    with pytest.raises(PipelineError, match=r"notes\.txt can't be read"):
        load_folder(two_classes)


def test_a_file_beside_the_classes_that_is_no_image_is_noted(two_classes):
    (two_classes / "readme.md").write_text("colours")
    source = load_folder(two_classes)
    (note,) = source.notes
    assert len(source.images) == 4 and "readme.md lies beside the folders of classes" in note


def test_hidden_folders_and_files_are_passed_over(two_classes):
    picture(two_classes / ".ipynb_checkpoints/0.png", (9, 9, 9))
    (two_classes / "red/._0.png").write_bytes(b"resource fork")
    source = load_folder(two_classes)
    assert (source.classes, len(source.images)) == (["blue", "red"], 4)


def test_a_missing_folder_is_refused_by_path(tmp_path):
    with pytest.raises(PipelineError, match=r"`data\.path` is .*nowhere"):
        load_folder(tmp_path / "nowhere")


def test_a_single_class_is_refused_by_name(tmp_path):
    picture(tmp_path / "red/0.png", (200, 0, 0))
    with pytest.raises(PipelineError, match="single class `red`"):
        load_folder(tmp_path)


def test_a_val_folder_without_a_train_folder_is_refused(tmp_path):
    picture(tmp_path / "val/red/0.png", (200, 0, 0))
    with pytest.raises(PipelineError, match="no folder `train`"):
        load_folder(tmp_path)


def test_a_class_without_training_images_is_refused_by_name(two_classes):
    root = two_classes / "root"
    for name in ("train/red", "train/blue", "test/green"):
        picture(root / name / "0.png", (9, 9, 9))
    with pytest.raises(PipelineError, match="class `green`"):
        load_folder(root)


@pytest.mark.parametrize("name", ["broken.png", "broken.jpg"])
def test_a_truncated_image_is_named(two_classes, name):
    noise = Image.fromarray(toys.images(1, size=40, channels=3)[0])
    noise.save(two_classes / "red" / name)
    content = (two_classes / "red" / name).read_bytes()
    (two_classes / "red" / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(PipelineError, match=name):
        load_folder(two_classes)


@pytest.mark.parametrize("content", [b"", b"no image at all"])
def test_a_file_that_only_has_an_images_name_is_named(two_classes, content):
    (two_classes / "red/fake.png").write_bytes(content)
    with pytest.raises(PipelineError, match=r"fake\.png"):
        load_folder(two_classes)


def fashion(raw: Path):
    return sources.load(toys.data_params(source="fashion_mnist", image_size=28), raw)


def fake_fashion(folder: Path, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in FASHION_FILES:
        (folder / name).write_bytes(content)
    return folder


INTACT = gzip.compress(np.random.default_rng(0).bytes(3000))
COMPRESSED = gzip.compress(b"idx " * 3000)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(INTACT, id="other content"),
        pytest.param(INTACT[:1500], id="cut short"),
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>not found</html>", id="no gzip"),
        pytest.param(COMPRESSED[:12] + bytes([COMPRESSED[12] ^ 255]) + COMPRESSED[13:], id="flipped byte"),
    ],
)
def test_a_damaged_fashion_mnist_file_is_named(tmp_path, content):
    fake_fashion(tmp_path / "fashion-mnist", content)
    with pytest.raises(PipelineError, match=FASHION_FILES[0]):
        fashion(tmp_path)


def test_a_missing_fashion_mnist_file_is_named(tmp_path):
    folder = fake_fashion(tmp_path / "fashion-mnist", INTACT)
    (folder / FASHION_FILES[0]).unlink()
    with pytest.raises(PipelineError, match=f"{FASHION_FILES[0]} is missing"):
        fashion(tmp_path)


def test_every_place_that_was_tried_is_listed_with_its_reason(tmp_path, monkeypatch):
    def refuses(scratch):
        raise subprocess.CalledProcessError(100, "apt-get", stderr="first\nE: Unable to locate package")

    def unreachable(scratch):
        raise OSError("Name or service not known")

    places = {"an empty folder": lambda scratch: scratch, "a package": refuses, "a mirror": unreachable}
    monkeypatch.setattr(fashion_mnist, "PLACES", places)
    with pytest.raises(PipelineError) as refused:
        fashion(tmp_path)
    message = str(refused.value)
    assert all(place in message for place in places)
    assert "Unable to locate package" in message and "Name or service not known" in message
    assert str(tmp_path / "fashion-mnist") in message


def test_wrong_files_of_a_place_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "PLACES", {"a mirror": lambda scratch: fake_fashion(scratch, INTACT)})
    with pytest.raises(PipelineError, match="a mirror"):
        fashion(tmp_path)
    assert not list((tmp_path).rglob("*.gz"))


@pytest.fixture
def few(tmp_path_factory, monkeypatch):
    """A folder with Fashion-MNIST's four files, of six and four images, which pass the checks."""
    folder, digests = tmp_path_factory.mktemp("few"), {}
    for split, count in (("train", 6), ("t10k", 4)):
        images = np.array([count, 28, 28], ">i4").tobytes() + toys.images(count, size=28).tobytes()
        labels = np.array([count], ">i4").tobytes() + bytes(range(count))
        for name, content in (("images-idx3", b"\0\0\x08\x03" + images), ("labels-idx1", b"\0\0\x08\x01" + labels)):
            digests[f"{split}-{name}-ubyte.gz"] = hashlib.sha256(content).hexdigest()
            (folder / f"{split}-{name}-ubyte.gz").write_bytes(gzip.compress(content))
    monkeypatch.setattr(fashion_mnist, "FILES", digests)
    return folder


@pytest.fixture
def mirror(few, monkeypatch):
    """The folder behind a web server, which is torchvision's second mirror; the first is gone."""
    monkeypatch.setenv("no_proxy", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=few))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    md5 = [(p.name, hashlib.md5(p.read_bytes(), usedforsecurity=False).hexdigest()) for p in few.iterdir()]
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "resources", md5)
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", [f"{address}gone/", address])
    places = {name: place for name, place in fashion_mnist.PLACES.items() if "mirrors" in name}
    monkeypatch.setattr(fashion_mnist, "PLACES", places)
    yield few
    server.shutdown()
    server.server_close()


def test_torchvisions_mirrors_are_asked_in_turn(tmp_path, mirror):
    assert fashion(tmp_path).images.shape == (10, 28, 28, 1)


def test_mirrors_that_lack_a_file_are_named_on_one_line(tmp_path, mirror):
    next(mirror.iterdir()).unlink()
    with pytest.raises(PipelineError, match=r"\n +torchvision's mirrors \(.*can't be fetched .*404.*404.*\)$"):
        fashion(tmp_path)


def test_a_source_that_passes_its_checks_is_kept_and_read_again(tmp_path, monkeypatch, few):
    monkeypatch.setattr(fashion_mnist, "PLACES", {"here": lambda scratch: few})
    fetched = fashion(tmp_path)
    monkeypatch.setattr(fashion_mnist, "PLACES", {})
    kept = fashion(tmp_path)
    assert np.array_equal(fetched.images, kept.images) and kept.images.shape == (10, 28, 28, 1)
    assert kept.labels.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]
    assert kept.fixed.tolist() == [""] * 6 + ["test"] * 4


@pytest.mark.parametrize(("source", "channels"), [("digits", 1), ("image_folder", 3)])
def test_a_folder_of_unlabelled_images_joins_any_source(two_classes, tmp_path_factory, source, channels):
    more = tmp_path_factory.mktemp("more")
    picture(more / "top.png", (90, 90, 90), size=(20, 12))
    picture(more / "deep/er/one.jpg", (90, 90, 90))
    (more / ".DS_Store").write_bytes(b"clutter")
    joined = sources.load(
        toys.data_params(source=source, path=str(two_classes), unlabelled=str(more), image_size=8),
        two_classes.with_name("raw"),
    )
    assert (joined.labels == UNLABELLED).sum() == 2 and (joined.labels[-2:] == UNLABELLED).all()
    assert joined.images.shape[1:] == (8, 8, channels)
    assert np.abs(joined.images[-2:].astype(int) - 90).max() <= 2
    assert UNLABELLED not in joined.classes and len(joined.fixed) == len(joined.labels)


def test_unlabelled_images_need_their_folder(tmp_path):
    with pytest.raises(PipelineError, match="nowhere, which is no folder"):
        sources.load(toys.data_params(unlabelled=str(tmp_path / "nowhere")), tmp_path)
