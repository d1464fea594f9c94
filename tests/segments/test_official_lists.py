import pytest

from epic100.base.errors import EpicError
from epic100.segments.official_lists import LISTS, find_lists, read_class_names, read_list


def listed(tmp_path, text, key="tail_verbs"):
    path = tmp_path / "list.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_list(path, key)


def test_a_list_that_the_config_names_goes_before_the_official_one_and_none_is_left_out(tmp_path):
    val = tmp_path / "EPIC_100_validation.csv"
    (tmp_path / "EPIC_100_tail_verbs.csv").write_text("verb\n3\n")
    (tmp_path / "EPIC_100_tail_nouns.csv").write_text("noun\n3\n")
    assert find_lists(val, {"tail_nouns": "mine.csv", "unseen_participants": None}) == {
        "tail_verbs": str(tmp_path / "EPIC_100_tail_verbs.csv"),
        "tail_nouns": "mine.csv",
    }
    assert find_lists(tmp_path / "none.csv", {}, to_be_made=True) == {
        key: str(tmp_path / name) for key, (name, _) in LISTS.items()
    }


def test_a_list_has_ids_of_classes_or_participants_may_be_empty_and_may_have_more_columns(tmp_path):
    assert listed(tmp_path, "participant_id\nP05\nP22\n", "unseen_participants") == ["P05", "P22"]
    assert listed(tmp_path, "participant_id\n", "unseen_participants") == []
    assert listed(tmp_path, "name,verb\nwash,2\n\nmix,10\n") == [2, 10]


@pytest.mark.parametrize(
    "key, text, words",
    [
        (
            "tail_verbs",
            "noun\n3\n",
            r"line 1: column verb missing \(found: noun\); expected a class id, of E",
        ),
        ("tail_nouns", "noun\n3\nspoon\n", r"line 3: noun is 'spoon'; expected a class id"),
        ("tail_nouns", "noun\n-3\n", r"line 2: noun is '-3'; expected a class id"),
        ("tail_nouns", "noun\n1_0\n", r"line 2: noun is '1_0'; expected a class id"),
        ("tail_nouns", "noun\n5.0\n", r"line 2: noun is '5.0'; expected a class id"),
        ("tail_verbs", "name,verb\nwash\n", r"line 2: verb is ''; expected a class id"),
        ("unseen_participants", "", r"line 1: column participant_id missing"),
        ("unseen_participants", 'participant_id\n""\n', r"line 2: .* is ''; expected a participan"),
        ("unseen_participants", b"participant_id\n\xff\n", r"not UTF-8 text .*`evaluate: unseen_p"),
    ],
)
def test_another_file_is_one_error_with_file_line_and_column(tmp_path, key, text, words):
    with pytest.raises(EpicError, match=rf"list\.csv: {words}"):
        listed(tmp_path, text, key)


HEADER = "narration_id,verb,verb_class,noun,noun_class\n"


@pytest.fixture
def csvs(tmp_path):
    (tmp_path / "train.csv").write_text(
        HEADER + "a,put-down,1,plate,2\nb,put,1,plate,2\nc,put-down,1,plates,2\nd,take,0,,7\n"
    )
    (tmp_path / "val.csv").write_text(HEADER + "e,put,1,lid,8\nf,put,1,plates,2\ng,put,1,lid,8\n")
    (tmp_path / "test.csv").write_text("narration_id,video_id\nh,P01_06\n")
    return [tmp_path / f"{name}.csv" for name in ("train", "val", "test")]


def test_a_class_is_called_by_the_words_that_annotators_used_most_or_by_its_number(csvs):
    names = read_class_names(csvs)
    # `put` is used four times over all files, and `put-down`, which comes first, twice.
    assert names("verb", 1) == "put"
    assert read_class_names(csvs[:1])("verb", 1) == "put-down"
    assert (names("verb", 0), names("noun", 8)) == ("take", "lid")
    assert (names("noun", 7), names("verb", 96)) == ("noun 7", "verb 96")
    assert read_class_names([])("noun", 0) == "noun 0"
    assert read_class_names([]).by_task == {}


def test_an_official_list_has_the_last_word_for_its_task_alone(csvs, tmp_path):
    path = tmp_path / "EPIC_100_verb_classes.csv"
    path.write_text(
        "id,key,instances,category\n0,take,\"['take', 'get']\",retrieve\n1,place,[],x\n"
    )
    names = read_class_names(csvs, {"verb_classes": str(path)})
    assert (names("verb", 1), names("noun", 2)) == ("place", "plate")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,key\n0,tap\none,spoon\n", "line 3: id is 'one'"),
        ("id,name\n0,tap\n", "line 1: .*key missing.*`evaluate: noun_classes:`"),
    ],
)
def test_a_list_with_a_wrong_id_names_file_line_and_key(csvs, tmp_path, text, words):
    (tmp_path / "nouns.csv").write_text(text)
    with pytest.raises(EpicError, match=f"nouns.csv: {words}"):
        read_class_names(csvs, {"noun_classes": str(tmp_path / "nouns.csv")})
