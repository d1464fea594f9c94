"""Official lists of tail classes and unseen participants, and the names of classes."""

import pytest

from epic100.base.errors import EpicError
from epic100.data.official_lists import (
    LISTS,
    find_lists,
    read_class_list,
    read_class_names,
    read_list,
)


def test_a_configured_list_goes_before_the_official(tmp_path):
    val = tmp_path / "EPIC_100_validation.csv"
    for name in ("EPIC_100_tail_verbs.csv", "EPIC_100_tail_nouns.csv"):
        (tmp_path / name).touch()
    assert find_lists(val, {"tail_nouns": "mine.csv", "unseen_participants": None}) == {
        "tail_verbs": str(tmp_path / "EPIC_100_tail_verbs.csv"),
        "tail_nouns": "mine.csv",
    }
    # Lists that are still to be made are expected in the folder of the CSV.
    assert find_lists(tmp_path / "none.csv", {}, to_be_made=True) == {
        key: str(tmp_path / name) for key, (name, _) in LISTS.items()
    }


@pytest.mark.parametrize(
    "key, text, values",
    [
        pytest.param("unseen_participants", "participant_id\nP05\nP22\n", ["P05", "P22"], id="ids"),
        pytest.param("unseen_participants", "participant_id\n", [], id="empty list"),
        pytest.param("tail_verbs", "name,verb\nwash,2\n\nmix,10\n", [2, 10], id="more columns"),
    ],
)
def test_an_official_list_is_read_by_its_column(tmp_path, key, text, values):
    path = tmp_path / "list.csv"
    path.write_text(text)
    assert read_list(path, key) == values


@pytest.mark.parametrize(
    "key, content, words",
    [
        pytest.param(
            "tail_verbs",
            b"noun\n3\n",
            r"line 1: column verb missing \(found: noun\); expected a class id, of E",
            id="another column",
        ),
        pytest.param("tail_nouns", b"noun\n3\nspoon\n", "line 3: noun is 'spoon'", id="name"),
        pytest.param("tail_nouns", b"noun\n-3\n", "line 2: noun is '-3'", id="negative"),
        pytest.param("tail_nouns", b"noun\n1_0\n", "line 2: noun is '1_0'", id="underscore"),
        pytest.param("tail_nouns", b"noun\n5.0\n", "line 2: noun is '5.0'", id="decimal"),
        pytest.param(
            "tail_verbs",
            b"name,verb\nwash\n",
            "line 2: verb is ''; expected a class id",
            id="missing field",
        ),
        pytest.param(
            "unseen_participants", b"", "line 1: column participant_id missing", id="empty file"
        ),
        pytest.param(
            "unseen_participants",
            b'participant_id\n""\n',
            "line 2: .* is ''; expected a participan",
            id="empty id",
        ),
        pytest.param(
            "unseen_participants",
            b"participant_id\n\xff\n",
            "not UTF-8 text .*`evaluate: unseen_p",
            id="not UTF-8",
        ),
        pytest.param(
            "noun_classes", b"id,key\n0,tap\none,spoon\n", "line 3: id is 'one'", id="word"
        ),
        pytest.param(
            "noun_classes",
            b"id,name\n0,tap\n",
            "line 1: .*key missing.*`evaluate: noun_classes:`",
            id="no names",
        ),
    ],
)
def test_a_bad_list_has_line_and_column(tmp_path, key, content, words):
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    read = read_list if key in LISTS else read_class_list
    with pytest.raises(EpicError, match=rf"list\.csv: {words}"):
        read(path, key)


@pytest.fixture
def csvs(tmp_path):
    """Annotations of train and val with narrated words, and test timestamps without."""
    header = "narration_id,verb,verb_class,noun,noun_class\n"
    texts = {
        "train": header
        + "a,put-down,1,plate,2\nb,put,1,plate,2\nc,put-down,1,plates,2\nd,take,0,,7\n",
        "val": header + "e,put,1,lid,8\nf,put,1,plates,2\ng,put,1,lid,8\n",
        "test": "narration_id,video_id\nh,P01_06\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.csv").write_text(text)
    return [tmp_path / f"{name}.csv" for name in texts]


def test_a_class_is_named_by_word_or_number(csvs):
    names = read_class_names(csvs)
    # `put` is used four times over all files, and `put-down`, which comes first, twice.
    assert names("verb", 1) == "put"
    assert read_class_names(csvs[:1])("verb", 1) == "put-down"
    # Noun 7 is narrated without a word, and verb 96 is in no file.
    assert (names("noun", 7), names("verb", 96)) == ("noun 7", "verb 96")
    assert read_class_names([]).by_task == {}


def test_an_official_list_of_verbs_names_verbs_alone(csvs, tmp_path):
    path = tmp_path / "EPIC_100_verb_classes.csv"
    path.write_text(
        "id,key,instances,category\n0,take,\"['take', 'get']\",retrieve\n1,place,[],x\n"
    )
    names = read_class_names(csvs, {"verb_classes": str(path)})
    assert (names("verb", 1), names("noun", 2)) == ("place", "plate")
