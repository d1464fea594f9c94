import pytest

from epic100.base.errors import EpicError
from epic100.base.text_table import read_own_table, read_table


def table(tmp_path, content, delimiter=","):
    path = tmp_path / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, ("a", "b"), about="a table of mine", delimiter=delimiter)


@pytest.mark.parametrize("content, rows", [
    ('a\tc\tb\n\n1\t"two\nlines"\t3\n\n\n"x\ty"\t\t\n',
     [(3, {"a": "1", "c": "two\nlines", "b": "3"}), (7, {"a": "x\ty", "c": "", "b": ""})]),
    (b"\xef\xbb\xbfa\tb\r\n1\t2\r\n", [(2, {"a": "1", "b": "2"})]),
    ("a\tb\tc\n1\n", [(2, {"a": "1", "b": "", "c": ""})]),
    ("a\tb\n", []),
], ids=["blank lines", "Windows", "fields stripped by an editor", "a header alone"])  # fmt: skip
def test_rows_come_with_the_line_on_which_they_begin(tmp_path, content, rows):
    assert table(tmp_path, content, "\t") == rows


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


@pytest.mark.parametrize("name, what", [("none.csv", "no such file"), ("", "is a folder")])
def test_a_file_that_is_not_there_is_named_with_what_was_expected(tmp_path, name, what):
    with pytest.raises(EpicError, match=f"{tmp_path / name}: {what}; expected a table of mine"):
        read_table(tmp_path / name, ("a",), about="a table of mine")


def test_a_table_of_ours_comes_as_values_and_a_spoilt_one_as_one_error(tmp_path):
    path, kinds = tmp_path / "table.tsv", {"a": int, "b": str}
    path.write_text("b\ta\tc\nx\t1\t\n")
    assert read_own_table(path, kinds, about="a table of mine") == [{"a": 1, "b": "x"}]
    path.write_text("b\ta\nx\t1\ny\n")  # cut
    with pytest.raises(EpicError, match=r"table\.tsv: line 3: a is ''; expected a table of mine"):
        read_own_table(path, kinds, about="a table of mine")
