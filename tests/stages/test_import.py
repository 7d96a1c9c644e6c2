"""`make import`: what arrives from each form of a user's images, and that what is refused leaves nothing."""

import os
import shutil
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from pipeline import params
from pipeline.images import decoding
from pipeline.project.errors import PipelineError
from stages import dvc_files, import_images
from tests.conftest import CHECKOUT, run

CLASSES = {"cat": 24, "dog": 20}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty project of git and DVC, which is the working directory; `own` beside it has two classes of 44 images."""
    root = tmp_path / "project"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc/config").touch()
    for name in (".gitignore", ".dvcignore"):
        shutil.copy(CHECKOUT / name, root)
    shutil.copytree(CHECKOUT / "data/none", root / "data/none")
    assert run("git", "init", "-q", cwd=root).returncode == 0
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def own(tmp_path) -> Path:
    return drawn(tmp_path / "own flowers")


def drawn(root: Path, classes: dict[str, int] = CLASSES, seed: int = 0) -> Path:
    random = np.random.default_rng(seed)
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            save(root / name / f"{number}.png", random)
    return root


def save(path: Path, random: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random.integers(0, 256, (8, 12, 3), np.uint8)).save(path)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def imported(*words: str, capsys) -> str:
    import_images.main(*map(str, words))
    return capsys.readouterr().out


def refused(*words: str) -> str:
    """What is said, when all is left as it was."""
    before = state()
    with pytest.raises(PipelineError) as error:
        import_images.main(*map(str, words))
    assert state() == before
    return str(error.value)


def state() -> dict[str, bytes]:
    """Every file of the project but what git and DVC keep of their own."""
    return {name: content for name, content in contents(Path()).items() if not name.startswith((".git/", ".dvc/"))}


def proposed(name: str = "own") -> params.Params:
    return params.load_for_dvc(Path(f"profiles/{name}.yaml"))


def packed(folder: Path, archive: Path, top: str = "") -> Path:
    with zipfile.ZipFile(archive, "w") as file:
        for name, content in contents(folder).items():
            file.writestr(f"{top}{name}", content)
    return archive


def test_a_folder_is_copied_tracked_staged_and_told(place, own, capsys):
    said = imported(own, capsys=capsys)
    assert contents(place / "data/images") == contents(own)
    tracked = YAML(typ="safe").load((place / "data/images.dvc").read_text())["outs"][0]
    assert tracked["path"] == "images" and tracked["nfiles"] == 44
    assert dvc_files.digest("data/images/") == tracked["md5"]
    staged = run("git", "diff", "--cached", "--name-only", cwd=place).stdout.split()
    assert staged == ["data/images.dvc", "profiles/own.yaml"]
    untracked = run("git", "status", "--porcelain", "data", cwd=place).stdout
    assert "images/" not in untracked.replace("data/none", "")
    assert "44 images of 2 classes, fewest first: dog 20, cat 24" in said
    assert "sides from 8 to 12 pixels, the median image 8 by 12" in said
    assert "train 28, val 7, test 9" not in said and "splits: train " in said
    assert said.rstrip().endswith("make repro PROFILE=profiles/own.yaml")
    asked = proposed()
    assert (asked.data.source, asked.data.path, asked.data.image_size) == ("image_folder", "data/images", 8)
    assert asked.deploy.name == "own-flowers"


def test_splits_stay_as_they_came(place, tmp_path, capsys):
    own = tmp_path / "own"
    for seed, split in enumerate(("train", "val", "test")):
        drawn(own / split, {"cat": 9, "dog": 8}, seed)
    said = imported(own, capsys=capsys)
    assert "splits: train 17, val 17, test 17; val and test as they came" in said
    assert contents(place / "data/images") == contents(own)


@pytest.mark.parametrize("name", ["labels.csv", "my table.csv"])
def test_a_folder_with_a_csv_is_one_with_a_csv(place, own, capsys, name):
    rows = [f"{path},{Path(path).parent.name}" for path in contents(own)]
    (own / name).write_text("\n".join(["path,label", *rows]) + "\n")
    imported(own, *(() if name == "labels.csv" else ("--csv", name)), capsys=capsys)
    assert (proposed().data.source, proposed().data.csv) == ("csv", name)


@pytest.mark.parametrize("top", ["", "flowers/", "Flowers & co/"])
def test_a_zip_is_what_is_in_it(place, own, tmp_path, capsys, top):
    imported(packed(own, tmp_path / "own.zip", top), capsys=capsys)
    assert contents(place / "data/images") == contents(own)


def test_a_zip_with_the_separators_of_windows_is_read(place, own, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as file:
        for name, content in contents(own).items():
            member = zipfile.ZipInfo("x")
            member.filename = name.replace("/", "\\")
            file.writestr(member, content)
    imported(tmp_path / "own.zip", capsys=capsys)
    assert contents(place / "data/images") == contents(own)


def test_images_without_labels_come_beside(place, own, tmp_path, capsys):
    more = drawn(tmp_path / "more", {"any": 30}, seed=5)
    said = imported(own, "--unlabelled", more, capsys=capsys)
    assert contents(place / "data/unlabelled") == contents(more) and (place / "data/unlabelled.dvc").exists()
    assert "30 of train have no label" in said
    assert proposed().data.unlabelled == "data/unlabelled" and proposed().baseline.epochs


def test_a_home_is_found_by_its_tilde(place, own, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(own.parent))
    imported(f"~/{own.name}", capsys=capsys)
    assert contents(place / "data/images") == contents(own)


def test_what_links_lead_to_arrives_as_files_that_may_be_written(place, own, tmp_path, capsys):
    whole = contents(own)
    (own / "dog").rename(tmp_path / "elsewhere")
    (own / "dog").symlink_to(tmp_path / "elsewhere")
    (own / "cat/0.png").rename(tmp_path / "one.png")
    (own / "cat/0.png").symlink_to(tmp_path / "one.png")
    (own / "cat/1.png").chmod(0o400)
    imported(own, capsys=capsys)
    assert contents(place / "data/images") == whole
    arrived = list((place / "data/images").rglob("*"))
    assert not any(path.is_symlink() for path in arrived)
    assert all(path.stat().st_mode & stat.S_IWUSR for path in arrived)


def test_what_systems_put_beside_images_is_counted_and_stays_behind(place, own, capsys):
    whole = contents(own)
    for name in (".DS_Store", "cat/._0.png", "cat/Thumbs.db", "desktop.ini", "__MACOSX/cat/._0.png",
                 "cat/@eaDir/0.png/SYNO.jpg", ".ipynb_checkpoints/a.png"):  # fmt: skip
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_bytes(b"x")
    said = imported(own, capsys=capsys)
    assert contents(place / "data/images") == whole
    assert "7 files or folders of" in said and "were left out" in said


def test_what_is_left_behind_reruns_nothing_where_it_appears_later():
    ignored = (CHECKOUT / ".dvcignore").read_text().split()
    assert set(decoding.CLUTTER) < set(ignored)
    assert {".DS_Store", "._*", ".ipynb_checkpoints"} < set(ignored)


def test_files_that_can_not_be_read_are_told_by_the_users_names_and_the_profile_leaves_them_out(place, own, capsys):
    (own / "cat/broken.png").write_bytes(b"none")
    said = imported(own, capsys=capsys)
    assert "1 files can't be read and are left out:" in said and f"{own}/cat/broken.png can't be read" in said
    assert proposed().data.on_error == "skip" and ".import.tmp" not in said


def test_duplicates_between_splits_are_told(place, tmp_path, capsys):
    own = tmp_path / "own"
    for seed, split in enumerate(("train", "test")):
        drawn(own / split, {"cat": 20, "dog": 20}, seed)
    for name in ("cat/0.png", "cat/1.png", "dog/2.png"):
        shutil.copy(own / "train" / name, own / "test" / name)
    assert "are, pixel for pixel, also in train" in imported(own, capsys=capsys)


def test_gray_images_have_one_channel(place, own, capsys):
    for path in own.rglob("*.png"):
        Image.open(path).convert("L").convert("RGB").save(path)
    assert "no image has a colour" in imported(own, capsys=capsys)
    assert proposed().data.mode == "gray"


def test_others_take_the_place_only_if_that_is_asked_for_and_a_profile_that_was_edited_stays(
    place, own, tmp_path, capsys
):
    imported(own, capsys=capsys)
    with (place / "profiles/own.yaml").open("a") as profile:
        profile.write("# mine\n")
    other = drawn(tmp_path / "other", {"oak": 30, "elm": 40, "ash": 50}, seed=3)
    assert "REPLACE=1" in refused(other)
    said = imported(other, "--replace", capsys=capsys)
    assert contents(place / "data/images") == contents(other)
    assert (place / "profiles/own.yaml").read_text().endswith("# mine\n")
    assert "profiles/own.yaml was there, says something else and stays." in said
    assert proposed("own-new").deploy.name == "other" and "PROFILE=profiles/own-new.yaml" in said


def test_a_clone_without_its_images_is_not_taken_for_a_project_without_any(place, own, capsys):
    imported(own, capsys=capsys)
    shutil.rmtree(place / "data/images")
    assert "REPLACE=1" in refused(own)


def test_what_dvc_refuses_leaves_what_was_there(place, own, tmp_path, capsys):
    imported(own, capsys=capsys)
    (place / ".dvc/config").write_text("['remote \"x\"']\n    nonsense = 1\n")
    other = drawn(tmp_path / "other", {"oak": 30, "elm": 40}, seed=3)
    assert "DVC can't track data/images" in refused(other, "--replace")


def test_a_project_that_is_no_repository_is_refused(place, own):
    shutil.rmtree(place / ".git")
    assert "is no git repository" in refused(own)


def test_nothing_to_import_is_refused(place):
    assert "FROM=~/flowers" in refused("")


def one_class(own):
    shutil.rmtree(own / "dog")


def few(own):
    for number in range(1, 20):
        (own / f"dog/{number}.png").unlink()


def not_utf8(own):
    os.rename(os.fsencode(own / "cat/0.png"), os.fsencode(own / "cat/") + b"caf\xe9.png")  # noqa: PTH104


def loop(own):
    (own / "cat/again").symlink_to(own)


def two_loops(own):
    (own / "cat/a").symlink_to(own / "dog")
    (own / "dog/b").symlink_to(own / "cat")


def dangling(own):
    (own / "cat/gone.png").symlink_to(own / "nowhere")


def pipe(own):
    os.mkfifo(own / "cat/pipe.png")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (one_class, "single class `cat`"),
        (few, "of which `dog` has the fewest, 1"),
        (not_utf8, r"caf\\udce9.png has a name that is no UTF-8 text"),
        (loop, "cat/again is a link to a folder that it is in"),
        (two_loops, "is a link to a folder that it is in"),
        (dangling, "cat/gone.png is no file, or a link to none"),
        (pipe, "cat/pipe.png is no file"),
    ],
)
def test_a_folder_is_refused_by_what_is_wrong_with_it(place, own, spoil, said):
    spoil(own)
    told = refused(own)
    assert said.replace("\\\\", "\\") in told and (str(own) in told or "`data." in told) and ".import.tmp" not in told


def test_other_places_are_refused(place, own, tmp_path):
    assert f"{tmp_path}/nowhere does not exist" in refused(tmp_path / "nowhere")
    (tmp_path / "text.txt").write_text("no archive")
    assert "is neither a folder nor a .zip" in refused(tmp_path / "text.txt")
    assert "is where images are imported to" in refused(place)
    assert "is where images are imported to" in refused(tmp_path)
    assert "hold the same images" in refused(own, "--unlabelled", own / "cat")
    assert "CSV is 'a/b.csv'" in refused(own, "--csv", "a/b.csv")
    assert "other.csv is missing" in refused(own, "--csv", "other.csv")


def entry(name: str, **changes: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo("x")
    member.filename = name
    for key, value in changes.items():
        setattr(member, key, value)
    return member


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (entry("../out.png"), "'../out.png', which leads out of it"),
        (entry("cat/../../out.png"), "which leads out of it"),
        (entry("..\\out.png"), "which leads out of it"),
        (entry("/etc/out.png"), "which leads out of it"),
        (entry("C:\\out.png"), "which leads out of it"),
        (
            entry("cat/link.png", create_system=3, external_attr=(stat.S_IFLNK | 0o777) << 16),
            "has a link, cat/link.png",
        ),
        (entry("cat/0.png"), "has cat/0.png twice"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_with_an_entry_that_is_no_plain_file_inside_is_refused(place, own, tmp_path, member, said):
    archive = packed(own, tmp_path / "own.zip")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(member, b"/etc/passwd")
    assert said in refused(archive)
    assert not (tmp_path / "out.png").exists()


def test_a_zip_that_is_damaged_is_refused(place, own, tmp_path):
    archive = packed(own, tmp_path / "own.zip")
    content = bytearray(archive.read_bytes())
    content[content.index(b"IHDR")] ^= 1
    archive.write_bytes(content)
    assert "own.zip can't be unpacked (Bad CRC-32" in refused(archive)
    archive.write_bytes(content[: len(content) // 2])
    assert "is neither a folder nor a .zip" in refused(archive)


def test_a_zip_with_a_password_is_refused(place, own, tmp_path):
    archive = packed(own, tmp_path / "own.zip")
    content = bytearray(archive.read_bytes())
    for marker, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags, of a file's header and of its entry
        content[content.index(marker) + offset] |= 1
    archive.write_bytes(content)
    assert "has a password" in refused(archive)
