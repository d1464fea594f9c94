import pytest

from epic100.base.errors import EpicError
from epic100.base.text_table import read_table


def table(tmp_path, content, delimiter=","):
    path = tmp_path / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, ("a", "b"), about="a table of mine", delimiter=delimiter)


def test_rows_come_with_the_line_on_which_they_begin(tmp_path):
    content = 'a,c,b\n\n1,"two\nlines",3\n\n\n"x, y",,\n'
    assert table(tmp_path, content) == [
        (3, {"a": "1", "c": "two\nlines", "b": "3"}),
        (7, {"a": "x, y", "c": "", "b": ""}),
    ]


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_a_name(tmp_path):
    assert table(tmp_path, b"\xef\xbb\xbfa\tb\r\n1\t2\r\n", "\t") == [(2, {"a": "1", "b": "2"})]


def test_fields_that_an_editor_stripped_from_a_line_s_end_are_empty(tmp_path):
    assert table(tmp_path, "a\tb\tc\n1\n", "\t") == [(2, {"a": "1", "b": "", "c": ""})]


def test_a_table_of_a_header_alone_has_no_rows(tmp_path):
    assert table(tmp_path, "a,b\n") == []


@pytest.mark.parametrize(
    "content, words",
    [
        ("", r"line 1: column a, b missing \(found: an empty line\); expected a table of mine"),
        ("a,c\n1,2\n", r"line 1: column b missing \(found: a, c\); expected a table of mine"),
        ("a,b,a\n1,2,3\n", r"line 1: column a is there twice; expected a table of mine"),
        ("a,b\n1,2\n\n1,2,3\n", r"line 4: 3 fields, the header has 2; expected a table of mine"),
        ('a,b\n1,2\n"1,2\n3,4\n', r"line 3: unexpected end of data; expected a table of mine"),
        ("a,b\nKüche,1\n".encode("latin-1"), r"not UTF-8 text .*; expected a table of mine"),
        (b"a,b\n1," + b"x" * 200_000 + b"\n", r"line 2: field larger.*; expected a table of mine"),
    ],
)
def test_what_is_no_such_table_is_one_error_with_file_and_line(tmp_path, content, words):
    with pytest.raises(EpicError, match=rf"table\.csv: {words}$"):
        table(tmp_path, content)


def test_a_file_that_is_not_there_is_named_with_what_was_expected(tmp_path):
    for path, what in ((tmp_path / "none.csv", "no such file"), (tmp_path, "is a folder")):
        with pytest.raises(EpicError, match=f"{path}: {what}; expected a table of mine"):
            read_table(path, ("a",), about="a table of mine")
