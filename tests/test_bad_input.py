"""What a user can get wrong: one sentence on stderr, exit status 1, nothing written, no traceback.

The first tables ask the reading functions through `errors.run`, as every command does; the rest are real processes.
"""

import contextlib
import gzip
import io
import json
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from pipeline import params
from pipeline.deployment import latency
from pipeline.images import decoding, fashion_mnist, sources, splits
from pipeline.images.decoding import Reading
from pipeline.logits import manifest
from pipeline.params import Architecture
from pipeline.project import data, errors, files
from pipeline.training import backbones, devices, models
from tests import toys
from tests.conftest import CHECKOUT, run_stage

PARAMS = (CHECKOUT / "params.yaml").read_text()
STUDENT = "\n  model: test_resnet\n  kwargs:"
STARTS = "\n  model: test_resnet\n  backbone:"


def sentence(command: Callable[[], object]) -> str:
    """What the command leaves on stderr; its exit status is 1."""
    with contextlib.redirect_stderr(io.StringIO()) as said, pytest.raises(SystemExit) as ended:
        errors.run(lambda *words: command())
    assert ended.value.code == 1
    assert said.getvalue().startswith("error: ") and "Traceback" not in said.getvalue()
    return said.getvalue()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (PARAMS, "", "`the file` must be a block"),
        ("seed: 0", "seed: zero", "`seed` should be a valid integer"),
        ("seed: 0", "seed: 1.5", "`seed` should be a valid integer"),
        ("seed: 0", "seed: -1", "`seed` should be greater than or equal to 0"),
        ("seed: 0", "seed: 0x" + "f" * 5000, "`seed` should be less than 4294967296; it is a number of thousands"),
        ("seed: 0", "seed: !!bool maybe", "not valid YAML"),
        ("seed: 0", "seed: 2024-02-30", "not valid YAML"),
        ("seed: 0", "seed: !!python/object/apply:os.system [touch x]", "not valid YAML"),
        ("seed: 0", "seed: 0\nseed: 1", 'found duplicate key "seed"'),
        ("seed: 0", "seed: 0\n1: 2", "`1`"),
        ("seed: 0", "seed: [0", "params.yaml, line"),
        ("seed: 0", "\tseed: 0", "params.yaml, line"),
        ("seed: 0", "seed: &s [*s]", "its aliases make more than 100,000 values"),
        ("seed: 0", f"seed: {'[' * 700}", "not valid YAML"),
        ("views: {flip: true}", "views: {shfit: 2}", "`views.shfit` is not a setting; did you mean `shift`?"),
        ("views: {flip: true}", "views: {flip: sometimes}", "`views.flip` should be a valid boolean"),
        ("{count: 3}", "{count: 1000000}", "`student_views.count` should be less than or equal to 1000"),
        ("  alpha: 0.9", "  alpha: .nan", "`distill.alpha` should be a finite number"),
        ("  alpha: 0.9", "  alpha: 2024-02-03", "`distill.alpha` should be a valid number"),
        ("  temperature: 2.0", "  temperature: -.inf", "`distill.temperature` should be a finite number"),
        ("  alpha: 0.9", "  weights: {target: 1}\n  alpha: 0.9", "`weights.target` is no weight of kd"),
        (
            "{channels: [8, 16, 32, 48], stem_width: 8}",
            "{channels: 2024-02-03}",
            "`student.kwargs` should hold numbers",
        ),
        ("{channels: [8, 16, 32, 48], stem_width: 8}", "{channels: .nan}", "`student.kwargs` should hold numbers"),
        ("{channels: [8, 16, 32, 48], stem_width: 8}", "&k {channels: *k}", "its aliases make more"),
        ("[0, 1, 2, 3, 4]", f"{list(range(1000))}", "`student_seeds` should have at most 100 items"),
        ("benchmark: {}", "benchmark: {calls: {99999999999: 1}}", "`benchmark.calls.99999999999`"),
        ("  resnet:", "  res net:", "`teachers.res net`: a teacher's name has lower-case letters, digits and _"),
        ("  resnet:", "  weighted:", "`teachers.weighted` has the name of a kind of ensemble"),
        ("  resnet:", "  deployed:", "`teachers.deployed` has the name of what is made from a model"),
        ("  resnet:", "  null:", "`teachers.None`"),
        ("compute: {}", "compute: {accelerator: cuda:x}", "`compute.accelerator`"),
        ("deploy:\n", "deploy:\n  name: ../fashion\n", "`deploy.name`"),
        ("tracking: {}", "tracking: {experiment: ' '}", "`tracking.experiment` is blank"),
        ("path: data/none/images ", "path: s3://bucket/images ", "`data.path` is s3://bucket/images, an address"),
        ("path: data/none/images ", "path: models ", "`data.path` is models, but stages write into models"),
        ("path: data/none/images ", "path: . ", "`data.path` is ., but stages write into data/prepared"),
        ("  image_size: 28", "  csv: ../labels.csv\n  image_size: 28", "`data.csv`"),
        ("  image_size: 28", "  mode: grey\n  image_size: 28", "`data.mode` should be 'auto', 'gray' or 'colour'"),
        ("  image_size: 28", "  on_error: skp\n  image_size: 28", "`data.on_error` should be 'fail' or 'skip'"),
        ("loss: {}", "loss: {class_weights: true}", "`loss.class_weights` should be 'none' or 'balanced'"),
        ("source: fashion_mnist ", "source: torchvision:../x ", "`data.source` is torchvision:../x; it should be"),
        ("path: data/none/images ", 'path: "a\\0b" ', "`data.path` is blank or holds characters"),
        (STUDENT, "\n  kwargs:", "`student` needs `model`, a name of timm's, or a `backbone` that names one"),
        (
            STUDENT,
            "\n  backbone: file:x.pth\n  kwargs:",
            "`student` needs `model`, as a `backbone` that is a file",
        ),
        (STUDENT, f"{STARTS} s3://x\n  kwargs:", "`student.backbone` is s3://x; it should be hf-hub:OWNER/NAME"),
        (STUDENT, f"{STARTS} hf-hub:resnet18\n  kwargs:", "`student.backbone` is hf-hub:resnet18; it should be"),
        (
            STUDENT,
            f"{STARTS} file:models/x.pth\n  kwargs:",
            "`student.backbone` is models/x.pth, but stages write into",
        ),
        (STUDENT, f"{STARTS} 'local-dir: '\n  kwargs:", "`student.backbone` is blank or holds characters"),
        ("  batch_size: 128", "  batch_size: 128\n  freeze_epochs: 7", "`student` has 7 `freeze_epochs` of 6 `epochs`"),
        ("  batch_size: 128", "  batch_size: 128\n  layer_decay: 1.5", "`student.layer_decay` should be less than or"),
    ],
    ids=lambda text: text[:40],
)
def test_params_are_refused(tmp_path, old, new, words):
    assert PARAMS.count(old) == 1
    (tmp_path / "params.yaml").write_text(PARAMS.replace(old, new))
    said = sentence(lambda: params.load(tmp_path / "params.yaml"))
    assert words in said and "params.yaml" in said and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("loss: {}\n", "", "params.yaml has no `loss`; write `loss: {}`, as DVC needs its name"),
        ("tracking: {}", "tracking: {experiment: a:b}", "DVC can't read it (found unexpected ':'); put the value"),
    ],
)
def test_params_that_dvc_alone_refuses_are_refused_before_it_reads_them(tmp_path, old, new, words):
    assert PARAMS.count(old) == 1
    (tmp_path / "params.yaml").write_text(PARAMS.replace(old, new))
    assert params.load(tmp_path / "params.yaml")
    said = sentence(lambda: params.load_for_dvc(tmp_path / "params.yaml"))
    assert words in said and len(said.splitlines()) == 1


def bomb(multiply: str, start: str, line: str) -> str:
    """YAML that names what stands before it eight times a line."""
    text = f"b0: &b0 {start}\n"
    for level in range(1, 12):
        text += f"b{level}: &b{level} " + line.format(multiply.join([f"*b{level - 1}"] * 8)) + "\n"
    return text


@pytest.mark.parametrize(("start", "line"), [("[ha]", "[{}]"), ("{ha: 1}", "{{<<: [{}]}}")], ids=["lists", "merges"])
def test_a_few_lines_that_mean_billions_are_refused_at_once(tmp_path, start, line):
    (tmp_path / "params.yaml").write_text(PARAMS + bomb(", ", start, line))
    assert "its aliases make more than 100,000 values" in sentence(lambda: params.load(tmp_path / "params.yaml"))


def picture(path: Path, size: tuple[int, int] = (12, 12)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 0, 0)).save(path)
    return path


def loop(root: Path) -> None:
    picture(root / "red/0.png")
    (root / "red/again").symlink_to(root)
    (root / "blue").symlink_to("blue")


def few(root: Path) -> None:
    for name in ("red", "blue"):
        picture(root / name / "0.png")


def named(*names: str) -> Callable[[Path], None]:
    return lambda root: [picture(root / name) for name in names] and None


FOLDERS = [
    ("missing", lambda root: root.rmdir(), "which is no folder"),
    ("a file", lambda root: root.rmdir() or root.write_text("images"), "which is no folder"),
    ("empty", lambda root: None, "has no images"),
    ("images, but no class folders", named("0.png", "1.png"), "has no images"),
    ("class folders without images", lambda root: [(root / name).mkdir() for name in "ab"], "a holds no image"),
    ("one class", named("red/0.png", "red/1.png"), "single class `red`"),
    ("a symlink loop", loop, "red/again is a link to a folder"),
    ("hidden images alone", named("red/.0.png", ".blue/0.png"), "red holds no image"),
    ("no training images", named("test/red/0.png", "test/blue/0.png"), "no folder `train`"),
    ("a class of test alone", named("train/a/0.png", "train/b/0.png", "test/c/0.png"), "class `c`"),
    ("too few images", few, "can't be taken from 2 images of 2 classes, of which `blue` has the fewest, 1"),
    ("a class of one image", named("a/0.png", "a/1.png", "a/2.png", "a/3.png", "b/0.png"), "`b` has the fewest, 1"),
    ("a class on two lines", named("re\nd/0.png", "blue/0.png"), "has a class 're\\nd'"),
    ("a class that is no text", named("r\udcff/0.png", "blue/0.png"), "has a class 'r\\udcff'"),
]


@pytest.mark.parametrize(("make", "words"), [row[1:] for row in FOLDERS], ids=[row[0] for row in FOLDERS])
def test_a_folder_of_images_is_refused(tmp_path, make, words):
    root = tmp_path / "images"
    root.mkdir()
    make(root)
    asked = toys.data_params(source="image_folder", path=str(root))
    said = sentence(lambda: splits.split(sources.load(asked, tmp_path / "raw"), asked, 0))
    assert words in said and (str(root) in said or "`data." in said)


def saved(form: str, mode: str = "RGB", **options: object) -> bytes:
    content = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(content, form, **options)
    return content.getvalue()


ROWS = ["red/0.png,red", "red/1.png,red", "blue/0.png,blue", "blue/1.png,blue"]


def lines(*rows: str, header: str = "path,label") -> bytes:
    return "\n".join([header, *rows]).encode()


TABLES = [
    ("missing", None, "labels.csv is missing; `data.path` is the folder"),
    ("empty", b"", "has no column `path`; it has no line"),
    ("no label", lines(header="path,class"), "has no column `label`; it has path, class"),
    ("an unknown column", lines(header="path,label,weight"), "has a column 'weight' too many"),
    ("a column twice", lines(header="path,label,path"), "has a column 'path' too many"),
    ("no rows", lines(), "has no rows of training images"),
    ("no rows of train", lines("red/0.png,red,test", header="path,label,split"), "has no rows of training images"),
    ("one class", lines(*ROWS[:2]), "single class `red`"),
    ("a blank label", lines(*ROWS, "x.png, "), "line 6: `label` is blank"),
    ("a blank path", lines(*ROWS, ",red"), "line 6: `path` is blank"),
    ("too few columns", lines(*ROWS, "x.png"), "line 6: should have 2 columns"),
    ("too many columns", lines("a,b,c", *ROWS), "line 2: should have 2 columns"),
    ("an unknown split", lines("a,b,spare", header="path,label,split"), "line 2: `split` is 'spare'; it should be"),
    ("a path outside", lines(*ROWS, "a/../../x.png,red"), "line 6: a/../../x.png is outside of"),
    ("an absolute path", lines("/etc/x.png,red", *ROWS), "line 2: /etc/x.png is outside of"),
    ("a path twice", lines(*ROWS, "red/./0.png,red"), "line 6: red/0.png has stood in line 2 already"),
    ("a label on two lines", lines(*ROWS, 'x.png,"a\nb"'), "has a class 'a\\nb'"),
    ("a class of test alone", lines("a,x,train", "b,y,train", "c,z,test", header="path,label,split"), "class `z`"),
    ("a missing file", lines(*ROWS, "red/7.png,red"), "7.png does not exist. `data.on_error: skip`"),
    ("a folder for a file", lines(*ROWS, "red,red"), "can't be read as an image"),
    ("another encoding", "path,label\nx.png,érable".encode("latin-1"), "is not UTF-8 text"),
    ("UTF-16", "path,label\nx.png,red".encode("utf-16"), "is not UTF-8 text"),
    ("an open quote", lines('"x.png,red'), "not valid CSV"),
    ("a field of megabytes", lines("x" * 2**20 + ",red"), "not valid CSV"),
    ("an image", saved("PNG"), "is not UTF-8 text"),
]


@pytest.mark.parametrize(("content", "words"), [row[1:] for row in TABLES], ids=[row[0] for row in TABLES])
def test_a_table_of_images_is_refused(tmp_path, content, words):
    root = tmp_path / "images"
    named("red/0.png", "red/1.png", "blue/0.png", "blue/1.png")(root)
    if content is not None:
        (root / "labels.csv").write_bytes(content)
    said = sentence(lambda: sources.load(toys.data_params(source="csv", path=str(root)), tmp_path / "raw"))
    assert words in said and str(root) in said and len(said.splitlines()) == 1


def png_of(width: int, height: int) -> bytes:
    """A PNG of that size by its header, with next to nothing in it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


READING = Reading(8, "RGB")
IMAGES = [
    ("zero bytes", "x.png", b"", "can't be read as an image"),
    ("text", "x.png", b"no image at all", "can't be read as an image"),
    ("half a JPEG", "x.jpg", saved("JPEG")[:900], "can't be read as an image"),
    ("half a PNG", "x.png", saved("PNG")[:900], "can't be read as an image"),
    ("half a GIF", "x.gif", saved("GIF")[:700], "can't be read as an image"),
    ("a PNG with a wrong checksum", "x.png", saved("PNG").replace(b"IDAT", b"IDAX"), "can't be read as an image"),
    ("a decompression bomb", "x.png", png_of(60_000, 60_000), "has more pixels than"),
    ("huge dimensions", "x.png", png_of(11_000, 11_000), "has more pixels than the 100,000,000"),
    ("a size of nought", "x.png", png_of(0, 0), "can't be read as an image"),
    ("32 bits a pixel", "x.tif", saved("TIFF", "F"), "has pixels of 32 bits"),
    ("a program in PostScript", "x.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "can't be read"),
    ("gzip", "x.png", gzip.compress(bytes(9)), "can't be read as an image"),
    ("a video", "x.mpg", b"\x00\x00\x01\xb3\x01\x00\x10", "can't be read as an image"),
]


@pytest.mark.parametrize(("name", "content", "words"), [row[1:] for row in IMAGES], ids=[row[0] for row in IMAGES])
def test_an_image_is_refused(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    said = sentence(lambda: decoding.decode(tmp_path / name, READING))
    assert words in said and str(tmp_path / name) in said


ODD = [
    ("one pixel", "x.png", "L", {}),
    ("CMYK", "x.jpg", "CMYK", {}),
    ("16 bits", "x.png", "I;16", {}),
    ("a palette with transparency", "x.png", "P", {"transparency": 0}),
    ("animated", "x.gif", "P", {"save_all": True, "append_images": [Image.new("P", (40, 40))]}),
]


@pytest.mark.parametrize(("name", "mode", "options"), [row[1:] for row in ODD], ids=[row[0] for row in ODD])
def test_an_odd_but_sound_image_is_read(tmp_path, name, mode, options):
    Image.new(mode, (1, 1) if mode == "L" else (40, 40), 9).save(tmp_path / name, **options)
    assert decoding.decode(tmp_path / name, READING).pixels.shape == (8, 8, 3)


FINGERPRINT = manifest.Fingerprint([], toys.INFO.sha256, toys.INFO.classes, vars(toys.VIEWS), {"top_k": None})


def weights(path: Path) -> None:
    models.save(toys.classifier(), path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def other_shape(path: Path) -> None:
    """Says that it is a larger model than its weights are of."""
    larger = toys.classifier(architecture=toys.architecture(kwargs={"channels": [8, 8, 8, 16]}))
    larger.architecture = toys.ARCHITECTURE
    models.save(larger, path)


class Harmful:
    def __reduce__(self) -> tuple:
        return print, ("code of a file ran",)


def harmful(path: Path) -> None:
    path.write_bytes(pickle.dumps(Harmful()))


def array(content: np.ndarray, **options: bool) -> Callable[[Path], None]:
    return lambda path: np.save(path.open("wb"), content, **options)


def cache(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        files.write_array(path.parent / "train.npy", np.zeros((2, 3, 2), np.float16))
        manifest.seal(path.parent, FINGERPRINT)
        content = files.read_json(path)
        files.write_json(path, change(content) or content)

    return make


def text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content) and None


WEIGHTS, ARRAY, CACHE, ONNX = "model.safetensors", "x.npy", "manifest.json", "model.onnx"
FILES = [
    ("weights that are missing", WEIGHTS, lambda path: None, "is missing"),
    ("weights that are cut", WEIGHTS, lambda path: weights(path) or cut(path), "is corrupt"),
    ("weights that are garbage", WEIGHTS, text("garbage"), "is corrupt"),
    ("weights of another shape", WEIGHTS, other_shape, "of another shape"),
    ("weights that are a pickle", WEIGHTS, harmful, "is corrupt"),
    ("an array that is cut", ARRAY, lambda path: array(np.arange(9))(path) or cut(path), "is cut short"),
    ("an array that is a pickle", ARRAY, harmful, "is cut short or is no .npy file"),
    ("an array of objects", ARRAY, array(np.array([Harmful()]), allow_pickle=True), "is no .npy file"),
    ("a cache of other weights", CACHE, cache(lambda known: known.update(weights=["0"])), "from other weights"),
    ("a cache of other views", CACHE, cache(lambda known: known.update(views={})), "from other `seed`, `views`"),
    ("a cache of other classes", CACHE, cache(lambda known: known.update(classes=["a"])), "from other class names"),
    ("a cache of other logits", CACHE, cache(lambda known: known.update(logits={"top_k": 1})), "from other `logits`"),
    ("a manifest that is no block", CACHE, cache(lambda known: [1]), "is not what `cache_logits` wrote"),
    ("a manifest that is no JSON", CACHE, text("{"), "is not valid JSON"),
    ("prepared data of another form", "dataset.json", text("[1]"), "is not what `prepare` wrote"),
    ("prepared data that are cut", "dataset.json", text('{"classes": ['), "is not valid JSON"),
    ("a graph that is garbage", ONNX, text("garbage"), "is no readable ONNX file"),
    ("a graph that is missing", ONNX, lambda path: None, "is missing"),
]
READERS = {
    WEIGHTS: models.load,
    ARRAY: files.open_array,
    CACHE: lambda path: manifest.open_cache(path.parent, "train", FINGERPRINT),
    "dataset.json": lambda path: data.open_info(path.parent),
    ONNX: lambda path: latency.session(path, 1),
}


@pytest.mark.parametrize(("name", "make", "words"), [row[1:] for row in FILES], ids=[row[0] for row in FILES])
def test_a_file_is_refused_and_stays_as_it_is(tmp_path, capfd, name, make, words):
    path = tmp_path / name
    make(path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    said = sentence(lambda: READERS[name](path))
    assert words in said and str(tmp_path) in said
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert "code of a file ran" not in capfd.readouterr().out


def test_a_checkpoint_of_timm_that_is_a_pickle_does_not_run(tmp_path, capfd):
    harmful(tmp_path / "evil.pth")
    asked = toys.architecture(kwargs={"checkpoint_path": str(tmp_path / "evil.pth")})
    assert "does not work" in sentence(lambda: models.build(asked, toys.INFO))
    assert "code of a file ran" not in capfd.readouterr().out


def backbone(root: Path, change: Callable[[dict], object] = lambda config: None) -> Path:
    """A folder as timm saves it, with another config.json."""
    timm.models.save_for_hf(timm.create_model("test_resnet", **toys.KWARGS), root, safe_serialization=True)
    config = files.read_json(root / "config.json")
    change(config)
    files.write_json(root / "config.json", config)
    return root


def starting(backbone: str, **more: object) -> Architecture:
    return toys.architecture(**{"model": None, "kwargs": {}, "backbone": backbone} | more)


def garbage(root: Path) -> None:
    (backbone(root) / "model.safetensors").write_bytes(b"garbage")


def unnamed(root: Path) -> None:
    (backbone(root) / "model.safetensors").unlink()


def only_a_pickle(root: Path) -> None:
    unnamed(root)
    harmful(root / "pytorch_model.bin")


def on_one_line(root: Path) -> None:
    (backbone(root) / "config.json").write_text("no config")


BACKBONES = [
    ("no such folder", lambda root: root.rmdir(), "has no config.json"),
    ("no config.json", lambda root: None, "has no config.json"),
    ("a config.json that is none", on_one_line, "whose config.json is none of timm's"),
    ("no architecture", lambda root: backbone(root, lambda c: c.pop("architecture")), "config.json is none of timm's"),
    ("an unknown one", lambda root: backbone(root, lambda c: c.update(architecture="x")), "Unknown model (x)"),
    ("other kwargs", lambda root: backbone(root, lambda c: c.update(model_args={})), "do not fit `test_resnet` with"),
    ("no weights", unnamed, "has no model.safetensors and no pytorch_model.bin"),
    ("garbage", garbage, "model.safetensors can't be read as weights"),
    ("a pickle", only_a_pickle, "is a pickle that holds more than weights, perhaps code, and is not opened"),
]


@pytest.mark.parametrize(("make", "words"), [row[1:] for row in BACKBONES], ids=[row[0] for row in BACKBONES])
def test_a_folder_to_start_from_is_refused(tmp_path, capfd, make, words):
    (tmp_path / "backbone").mkdir()
    make(tmp_path / "backbone")
    digests = [files.sha256(path) for path in (tmp_path / "backbone").glob("*.*") if path.name in backbones.WEIGHTS]
    asked = starting(f"local-dir:{tmp_path / 'backbone'}", backbone_sha256=next(iter(digests), None))
    said = sentence(lambda: models.build(asked, toys.INFO))
    assert words in said and len(said.splitlines()) == 1
    assert "code of a file ran" not in capfd.readouterr().out


def tensors(path: Path, **changes: object) -> None:
    torch.save(timm.create_model("test_resnet", **toys.KWARGS).state_dict() | changes, path)


CHECKPOINTS = [
    ("missing", lambda path: None, "is no file"),
    ("a pickle", harmful, "is a pickle that holds more than weights, perhaps code, and is not opened"),
    ("cut", lambda path: tensors(path) or path.write_bytes(path.read_bytes()[:999]), "can't be read as weights"),
    ("no weights", lambda path: torch.save({"lr": 0.1}, path), "holds no weights"),
    ("empty", lambda path: torch.save({}, path), "holds no weights"),
    ("another model", lambda path: torch.save(timm.create_model("test_vit").state_dict(), path), "and 1"),
    ("a layer of another shape", lambda path: tensors(path, **{"bn1.bias": torch.zeros(9)}), ": bn1.bias are missing"),
]


@pytest.mark.parametrize(("make", "words"), [row[1:] for row in CHECKPOINTS], ids=[row[0] for row in CHECKPOINTS])
def test_a_file_to_start_from_is_refused(tmp_path, capfd, make, words):
    make(tmp_path / "weights.pth")
    digest = files.sha256(tmp_path / "weights.pth") if (tmp_path / "weights.pth").exists() else None
    asked = toys.architecture(backbone=f"file:{tmp_path / 'weights.pth'}", backbone_sha256=digest)
    said = sentence(lambda: models.build(asked, toys.INFO))
    assert words in said and len(said.splitlines()) == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (
            {"backbone": "resnet18.a1_in2k"},
            "timm has no pretrained weights `resnet18.a1_in2k`; the closest are resnet18.a1",
        ),
        ({"backbone": "gcvit_base.in1k"}, "timm's `gcvit_base.in1k` is not on the hub"),
        ({"backbone": "file:setup.cfg", "model": "resnett"}, "is no file"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_name_to_start_from_is_refused(asked, words):
    assert words in sentence(lambda: models.build(starting(**asked), toys.INFO))


def test_a_backbone_of_another_model_is_refused(tmp_path):
    digest = files.sha256(backbone(tmp_path) / "model.safetensors")
    asked = starting(f"local-dir:{tmp_path}", model="resnet18", backbone_sha256=digest)
    assert "a `test_resnet`, but `model` is `resnet18`" in sentence(lambda: models.build(asked, toys.INFO))


def test_a_gzip_bomb_is_unpacked_no_further_than_fashion_mnist_is_large(tmp_path, monkeypatch):
    (tmp_path / "fashion-mnist").mkdir()
    monkeypatch.setattr(fashion_mnist, "LARGEST_FILE", 2**20)
    (tmp_path / "fashion-mnist" / next(iter(fashion_mnist.FILES))).write_bytes(gzip.compress(bytes(2**24)))
    read: list[int] = []
    digest = fashion_mnist.hashlib.sha256
    monkeypatch.setattr(fashion_mnist.hashlib, "sha256", lambda content: read.append(len(content)) or digest(content))
    asked = toys.data_params(source="fashion_mnist", image_size=28)
    assert "is cut short or corrupt" in sentence(lambda: sources.load(asked, tmp_path))
    assert read == [2**20]


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(device):
    said = sentence(lambda: devices.device(toys.compute(accelerator=device)))
    assert f"`compute.accelerator` is {device}, which this machine can't use" in said


@pytest.fixture(scope="session")
def with_code(tmp_path_factory) -> Path:
    """A project of the code and the smoke profile, without data, git and DVC."""
    root = tmp_path_factory.mktemp("code")
    for name in ("pipeline", "stages"):
        shutil.copytree(CHECKOUT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "dvc.yaml", root)
    shutil.copy(CHECKOUT / "profiles/smoke.yaml", root / "params.yaml")
    for name in ("images", "unlabelled"):
        (root / "data/none" / name).mkdir(parents=True)
    return root


@pytest.fixture(scope="session")
def with_data(tmp_path_factory, with_code) -> Path:
    root = tmp_path_factory.mktemp("data") / "project"
    shutil.copytree(with_code, root)
    assert run_stage("prepare", root).returncode == 0
    return root


@pytest.fixture
def project(tmp_path, with_code):
    return shutil.copytree(with_code, tmp_path / "project")


@pytest.fixture
def prepared(tmp_path, with_data):
    return shutil.copytree(with_data, tmp_path / "project")


@pytest.fixture
def cached(prepared, digits):
    """The same with all that digits have made of other settings."""
    for name in ("data", "models", "metrics"):
        shutil.rmtree(prepared / name, ignore_errors=True)
        shutil.copytree(digits / name, prepared / name)
    shutil.copy(digits / "params.yaml", prepared)
    return prepared


def contents(root: Path) -> dict[Path, bytes]:
    files = [path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path: path.read_bytes() for path in files}


def change(project, old, new):
    text = (project / "params.yaml").read_text()
    assert text.count(old) == 1, old
    (project / "params.yaml").write_text(text.replace(old, new))


def refused(project, words, **environment) -> str:
    before = contents(project)
    result = run_stage(words, project, **environment)
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stderr.startswith("error: ") and "Traceback" not in result.stderr, result.stderr
    assert contents(project) == before
    return result.stderr


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("alpha: 0.4", "alhpa: 0.4", "did you mean `alpha`?"),
        ("source: digits", "source: cifar", "`data.source`"),
        ("val_fraction: 0.25", "val_fraction: 1", "`data.val_fraction`"),
        ("val_fraction: 0.25", "val_fraction: 0.001", "`data.val_fraction`"),
        ("source: digits", "source: image_folder", "data/none/images"),
        ("source: digits", "source: csv", "labels.csv is missing"),
        ("source: digits", "source: torchvision:CIFAR11", "did you mean torchvision:CIFAR10?"),
        ("unlabelled: data/none/unlabelled", "unlabelled: data/nowhere", "`data.unlabelled`"),
        ("val_fraction: 0.25", "val_fraction: 0.25, train_samples: 3", "`data.train_samples`"),
    ],
)
def test_prepare_refuses(project, old, new, words):
    change(project, old, new)
    assert words in refused(project, "prepare")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("model: test_byobnet", "model: test_byobnett", "test_byobnet"),
        ("{channels: [16, 24, 32, 48]}", "{chanels: [8]}", "chanels"),
        ("lr: 0.015}\n  byobnet", "lr: 1.0e+30}\n  byobnet", "diverged"),
    ],
)
def test_training_refuses(prepared, old, new, words):
    change(prepared, old, new)
    name = "byobnet" if "test_byobnet" in old else "resnet"
    assert words in refused(prepared, f"train_teacher {name}")


def test_training_refuses_an_unknown_teacher(prepared):
    assert "`nobody`" in refused(prepared, "train_teacher nobody")


def test_words_that_a_stage_does_not_take_are_refused(prepared):
    assert "This command takes NAME; it was given `by ob`." in refused(prepared, "train_teacher by ob")
    assert "This command takes no words; it was given `all`." in refused(prepared, "fit_ensemble all")


def test_an_array_that_is_cut_is_refused(prepared):
    path = prepared / "data/prepared/train_images.npy"
    path.write_bytes(path.read_bytes()[:-9])
    assert "train_images.npy is cut short" in refused(prepared, "train_baseline 0")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("folds: 3", "folds: 3, budget_ms: 0.0001", "`ensemble.budget_ms` is 0.0001, but even the fastest"),
        ("folds: 3", "folds: 90, select: stacking", "needs 90 validation images of each class"),
    ],
)
def test_choosing_an_ensemble_refuses(cached, old, new, words):
    change(cached, old, new)
    assert words in refused(cached, "fit_ensemble")


def test_a_teacher_whose_files_are_missing_is_named_and_never_left_out(cached):
    change(cached, "\nstudent:", "\n  new: {model: test_resnet, epochs: 1, lr: 0.01}\nstudent:")
    assert "models/exported/teachers/new/model.onnx is missing; `dvc repro` makes it" in refused(cached, "time_members")


@pytest.mark.parametrize("blocked", ["data/prepared", "runs"])
def test_a_folder_that_can_not_be_written_is_named(project, blocked):
    (project / blocked).write_text("no folder")
    result = run_stage("prepare", project)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "error: The operating system refused" in result.stderr and blocked in result.stderr
    assert (project / blocked).read_text() == "no folder"


def test_a_tracking_address_that_is_nonsense_costs_a_warning_or_where_params_say_so_the_stage(project):
    nonsense = {"MLFLOW_TRACKING_URI": "nonsense://nowhere"}
    lenient = run_stage("prepare", project, **nonsense)
    assert lenient.returncode == 0 and "warning: prepare could not be logged to MLflow" in lenient.stderr
    change(project, "tracking: {}", "tracking: {strict: true}")
    strict = run_stage("prepare", project, **nonsense)
    assert strict.returncode == 1 and "`tracking.strict` is true" in strict.stderr
    assert "Traceback" not in lenient.stderr + strict.stderr
    assert json.loads((project / "data/prepared/dataset.json").read_text())["classes"]
