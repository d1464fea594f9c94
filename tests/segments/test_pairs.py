import numpy as np
import pandas as pd
import pytest

from epic100.base.errors import EpicError
from epic100.segments.pairs import pair_table, read_pairs, write_pairs

HEADER = "pair_id\tverb\tnoun\tcount\n"


def read(tmp_path, text):
    path = tmp_path / "pairs.tsv"
    path.write_text(text)
    return read_pairs(path)


@pytest.mark.parametrize("seed", range(3))
def test_the_table_holds_the_pairs_of_train_counted_and_in_order(tmp_path, seed):
    rng = np.random.default_rng(seed)
    train = pd.DataFrame({"verb": rng.integers(-1, 6, 300), "noun": rng.integers(0, 9, 300)})
    train.loc[train["verb"] == -1, "noun"] = -1
    write_pairs(pair_table(train), tmp_path / "pairs.tsv")
    seen = [pair for pair in zip(train["verb"], train["noun"], strict=True) if pair[0] != -1]
    expected = [(verb, noun, seen.count((verb, noun))) for verb, noun in sorted(set(seen))]
    assert read_pairs(tmp_path / "pairs.tsv") == expected
    header, first, *_ = (tmp_path / "pairs.tsv").read_text().splitlines()
    assert header == HEADER.strip() and first.split("\t")[0] == "0"


@pytest.mark.parametrize(
    "text, words",
    [
        (
            "",
            r"line 1: column pair_id, verb, noun, count missing .*the pair table of the rule clean",
        ),
        (HEADER, r"no pairs; expected the pair table of .*snakemake -R"),
        ("pair_id\tverb\tnoun\n0\t1\t2\n", r"line 1: column count missing"),
        (HEADER + "0\t1\t2\t3\n1\t1\tpan\t3\n", r"line 3: noun is 'pan'; expected the pair tabl"),
        (HEADER + "0\t1\t2\n", r"line 2: count is ''; expected the pair table .*snakemake -R"),
    ],
)
def test_a_bad_table_is_one_error_with_file_line_and_column(tmp_path, text, words):
    with pytest.raises(EpicError, match=rf"pairs\.tsv: {words}"):
        read(tmp_path, text)


def test_a_missing_table_is_reported_with_the_rule_that_makes_it(tmp_path):
    with pytest.raises(EpicError, match=r"pairs\.tsv: no such file; .*of the rule clean"):
        read_pairs(tmp_path / "pairs.tsv")


def test_a_table_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(KeyError):
        write_pairs(pd.DataFrame({"pair_id": [0], "verb": [1]}), tmp_path / "pairs.tsv")
    assert not list(tmp_path.iterdir())
