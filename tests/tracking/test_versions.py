from pipeline.tracking import versions

OLD = {"distill.temperature": "4.0", "distill.alpha": "0.7", "shipped.baseline": "baseline-0"}
NEW = {"distill.temperature": "2.0", "distill.alpha": "0.7", "shipped.baseline": "baseline-1"}


def test_a_version_is_called_by_what_it_changed():
    assert versions.name(OLD, NEW, "abcdef0123") == "distill.temperature 4.0 -> 2.0"


def test_the_first_version_and_one_of_other_code_have_names_too():
    assert versions.name(None, NEW, "abcdef0123") == "first version"
    assert versions.name(NEW, NEW, "abcdef0123") == "same params, commit abcdef0"
    assert versions.name(NEW, NEW, "") == "same params"


def test_what_came_or_went_is_a_change():
    assert versions.changes({"a": "1"}, {"b": "2"}) == {"a": ("1", "-"), "b": ("-", "2")}


def test_a_name_has_room_for_three_changes_and_counts_the_others():
    before, now = ({f"key{number}": str(number + offset) for number in range(5)} for offset in (0, 1))
    assert versions.name(before, now, "") == "key0 0 -> 1, key1 1 -> 2, key2 2 -> 3 and 2 more"
    assert len(versions.name({"a": "x" * 5000}, {"a": "y" * 5000}, "")) < 250


def test_a_description_links_to_each_stages_run():
    text = versions.description("table", {"train_teacher@a": "0f"}, "7")
    assert text.startswith("table") and "[train_teacher@a](#/experiments/7/runs/0f)" in text


def test_a_long_description_keeps_to_what_a_database_takes():
    paragraphs, runs = ["row\n" * 700, "x" * 900, "y" * 900], {f"stage{number}": "0f" * 16 for number in range(90)}
    text = versions.description("\n\n".join(paragraphs), runs, "7")
    assert len(text) <= 8000 and text.startswith("\n\n".join(paragraphs[:2]))
    assert paragraphs[2] not in text and "report.html" in text
    assert "[stage0](" in text and "[stage89](" not in text and text.endswith(").\n")
