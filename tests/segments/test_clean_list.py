from contextlib import nullcontext
from pathlib import Path

import pytest

from epic100.base.errors import EpicError
from epic100.segments.clean_list import read_clean_list

LINE = "P01/P01_01.MP4 0 9 1 2 P01_01_0\n"


@pytest.fixture
def results(tmp_path) -> Path:
    for name in ("clean", "segments"):
        (tmp_path / name).mkdir()
    for split in ("train", "val", "test"):
        (tmp_path / f"clean/{split}.txt").write_text(LINE)
        (tmp_path / f"segments/{split}.txt").write_text(LINE)
    return tmp_path


def drop(results: Path, *splits: str) -> None:
    rows = [f"P01_01_0\t{split}\tvideo missing\n" for split in splits]
    (results / "clean/dropped.tsv").write_text("narration_id\tsplit\treason\n" + "".join(rows))


def test_a_list_with_segments_is_read_whatever_was_dropped(results):
    assert read_clean_list(results / "clean/val.txt")["narration_id"].tolist() == ["P01_01_0"]
    drop(results)
    assert len(read_clean_list(results / "clean/val.txt")) == 1


@pytest.mark.parametrize("split, others, lost", [
    ("val", None, True), ("val", (), True), ("val", ("train", "test"), True),
    ("trainval", ("test",), True), ("trainval", ("val",), False), ("val", ("val",), False),
])  # fmt: skip
def test_an_empty_list_is_one_only_if_dropped_segments_explain_it(results, split, others, lost):
    (results / f"clean/{split}.txt").write_text("")
    if others is not None:
        drop(results, *others)
    words = rf"{split}\.txt: no segment in it, .*dropped\.tsv.*-R clean"
    with pytest.raises(EpicError, match=words) if lost else nullcontext():
        assert read_clean_list(results / f"clean/{split}.txt").empty


def test_a_split_without_annotations_has_an_empty_list(results):
    for folder in ("clean", "segments"):
        (results / folder / "val.txt").write_text("")
    assert read_clean_list(results / "clean/val.txt").empty
