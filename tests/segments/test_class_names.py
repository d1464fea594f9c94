import pytest

from epic100.base.errors import EpicError
from epic100.segments.class_names import read_class_names

HEADER = "narration_id,verb,verb_class,noun,noun_class\n"


@pytest.fixture
def csvs(tmp_path):
    (tmp_path / "train.csv").write_text(
        HEADER + "a,put-down,1,plate,2\nb,put,1,plate,2\nc,put-down,1,plates,2\nd,take,0,,7\n"
    )
    (tmp_path / "val.csv").write_text(HEADER + "e,put,1,lid,8\nf,put,1,plates,2\ng,put,1,lid,8\n")
    (tmp_path / "test.csv").write_text("narration_id,video_id\nh,P01_06\n")
    return [tmp_path / f"{name}.csv" for name in ("train", "val", "test")]


def test_a_class_is_called_by_the_words_that_annotators_used_most_over_all_files(csvs):
    names = read_class_names(csvs)
    assert names("verb", 1) == "put"  # four times; put-down, the first, twice
    assert read_class_names(csvs[:1])("verb", 1) == "put-down"
    assert (names("verb", 0), names("noun", 8)) == ("take", "lid")


def test_a_class_without_words_is_called_by_its_number(csvs):
    names = read_class_names(csvs)
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


@pytest.mark.parametrize("text, words", [
    ("id,key\n0,tap\none,spoon\n", "line 3: id is 'one'"),
    ("id,name\n0,tap\n", "line 1: .*key missing.*`evaluate: noun_classes:`"),
])  # fmt: skip
def test_a_list_with_a_wrong_id_names_file_line_and_key(csvs, tmp_path, text, words):
    (tmp_path / "nouns.csv").write_text(text)
    with pytest.raises(EpicError, match=f"nouns.csv: {words}"):
        read_class_names(csvs, {"noun_classes": str(tmp_path / "nouns.csv")})
