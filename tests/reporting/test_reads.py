import pandas as pd

from pipeline.reporting import reads


def test_test_was_read_as_often_as_there_were_other_answers(tmp_path):
    path = tmp_path / "test_reads.csv"
    assert reads.sentence(path, "images").startswith("Test was read 0 times")
    for answers in ("first", "second", "first"):
        reads.note(path, "images", answers)
    assert pd.read_csv(path).to_dict("list") == {"test": ["images"] * 2, "answers": ["first", "second"]}
    assert reads.sentence(path, "images").startswith("Test was read 2 times")


def test_other_test_images_have_a_count_of_their_own(tmp_path):
    path = tmp_path / "test_reads.csv"
    for test in ("old", "new"):
        reads.note(path, test, "answers")
    assert len(pd.read_csv(path)) == 2 and reads.sentence(path, "new").startswith("Test was read 1 time,")


def test_a_reading_that_is_known_leaves_the_file_as_it_is(tmp_path):
    path = tmp_path / "test_reads.csv"
    reads.note(path, "00123", "007")  # digits alone are no numbers
    before = path.read_bytes()
    reads.note(path, "00123", "007")
    assert path.read_bytes() == before and b"00123,007" in before
