import pytest

from epic100.base.errors import EpicError
from epic100.minikitchen import write_annotations
from epic100.segments.official_lists import LISTS, find_lists, read_list
from support.demo_kitchen import SHEET


def listed(tmp_path, text, key="tail_verbs"):
    path = tmp_path / "list.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_list(path, key)


def test_the_mini_kitchen_s_lists_are_found_beside_its_csv_and_read(tmp_path):
    write_annotations(SHEET, tmp_path, seed=0)
    found = find_lists(tmp_path / "EPIC_100_validation.csv", dict.fromkeys(LISTS))
    values = {key: read_list(path, key) for key, path in found.items()}
    train, val = ({v.participant_id for v in SHEET if v.split == s} for s in ("train", "val"))
    assert set(values["unseen_participants"]) == val - train != set()
    for key in ("tail_verbs", "tail_nouns"):
        assert len(values[key]) == 1 and isinstance(values[key][0], int)


def test_a_list_that_the_config_names_goes_before_the_official_one_and_none_is_left_out(tmp_path):
    val = tmp_path / "EPIC_100_validation.csv"
    (tmp_path / "EPIC_100_tail_verbs.csv").write_text("verb\n3\n")
    (tmp_path / "EPIC_100_tail_nouns.csv").write_text("noun\n3\n")
    assert find_lists(val, {"tail_nouns": "mine.csv", "unseen_participants": None}) == {
        "tail_verbs": str(tmp_path / "EPIC_100_tail_verbs.csv"),
        "tail_nouns": "mine.csv",
    }
    assert set(find_lists(val, {}, to_be_made=True)) == set(LISTS)


def test_a_list_may_be_empty_and_may_have_more_columns(tmp_path):
    assert listed(tmp_path, "participant_id\n", "unseen_participants") == []
    assert listed(tmp_path, "name,verb\nwash,2\n\nmix,10\n") == [2, 10]


@pytest.mark.parametrize(
    "key, text, words",
    [
        ("tail_verbs", "noun\n3\n", r"line 1: column verb missing \(found: noun\); expected EPIC_"),
        ("tail_nouns", "noun\n3\nspoon\n", r"line 3: noun is 'spoon'; expected a class id"),
        ("tail_nouns", "noun\n-3\n", r"line 2: noun is '-3'; expected a class id"),
        ("tail_verbs", "name,verb\nwash\n", r"line 2: verb is ''; expected a class id"),
        ("unseen_participants", "", r"line 1: column participant_id missing"),
        ("unseen_participants", 'participant_id\n""\n', r"line 2: .* is ''; expected a participan"),
        ("unseen_participants", b"participant_id\n\xff\n", r"not UTF-8 text .*`evaluate: unseen_p"),
    ],
)
def test_another_file_is_one_error_with_file_line_and_column(tmp_path, key, text, words):
    with pytest.raises(EpicError, match=rf"list\.csv: {words}"):
        listed(tmp_path, text, key)


def test_a_list_that_is_not_there_is_reported_with_its_key(tmp_path):
    with pytest.raises(EpicError, match=r"none\.csv: no such file; .*`evaluate: tail_nouns:`"):
        read_list(tmp_path / "none.csv", "tail_nouns")
