"""Names in sheets and lists that would leave their folder, their shell word or their page."""

import os
import shutil
from functools import partial

import pytest

from epic100.base.disk import read_json
from epic100.base.errors import EpicError
from epic100.base.names import NAME, is_url, printable, whole_number
from epic100.migrate.checkpoint import read_pair_order
from epic100.segments.official_lists import read_list
from epic100.segments.segment_list import read_segments
from epic100.video.sheet import read_sheet
from support.checkout import ROOT, run_snakemake
from support.fuzzing import read_csv

BAD_NAMES = [
    "P01$(id>x)", "P01`id`", "P01;id", "P01|id", "P01&", "P01>x", "..", "../P01", ".hidden", "-rf",
    "--wrap", "P01'", 'P01"', "P01\\", "P01 02", "P01\x1b[2J", "P01\x00", "P01\u202e", "P0\u0661",
    "Ｐ01", "<b>", "{participant}", "*", "~", "javascript:alert(1)", "P" * 101, "",
]  # fmt: skip
BAD_URLS = [
    "file:///etc/passwd", "ftp://x/a", "http:///a", "https://user:pw@host/a", "javascript:alert(1)",
    "https://x/</script><script>alert(1)</script>", "https://x/a b", "https://x/'", 'https://x/"',
    "https://x/\x1b", "https://x/`id`", "https://x/" + "a" * 2000, "//x/a", "x/a",
]  # fmt: skip
BAD_DIGESTS = ["xyz", "0" * 31, "0" * 33, "g" * 32, "../" + "0" * 29]
# Each row breaks a limit of fps or of seconds, whose product must fit into int64.
NO_FRAME_COUNTS = ["1e308\t1e308", "50\t1e7", "1e5\t9"]
SHEET = "video_id\tparticipant_id\tsplit\tfps\tduration\turl\tmd5\n"
CSV = "narration_id,video_id,start_timestamp,stop_timestamp,verb_class,noun_class\n"


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def assert_refused(read, path, text: str, words: str) -> None:
    path.write_text(text)
    with pytest.raises(EpicError, match=words) as no:
        read(path)
    # `read_csv` shows the id as it is, in one place.
    assert str(no.value).isprintable() or read is read_csv


@pytest.mark.parametrize("name", BAD_NAMES)
def test_an_id_that_is_no_name_is_refused_with_its_line(tmp_path, name):
    good, bad = ["P01_01", "P01", "train", "50", "9"], quoted(name)
    for fields in ([bad, *good[1:]], [good[0], bad, *good[2:]]):
        text = SHEET + "P02_02\tP02\ttrain\t50\t9\n" + "\t".join(fields) + "\n"
        words = r"videos\.tsv: line 3: .*_id is .*; expected a name"
        assert_refused(read_sheet, tmp_path / "videos.tsv", text, words)
    text = f"{CSV}{bad},P01_01,00:00:01.00,00:00:02.00,1,2\n"
    words = r"train\.csv: line 2 .*narration_id: .*; expected a name"
    assert_refused(read_csv, tmp_path / "train.csv", text, words)
    text = f"participant_id\n{bad}\n"
    words = r"unseen\.csv: line 2: .*expected a participant id"
    read = partial(read_list, key="unseen_participants")
    assert_refused(read, tmp_path / "unseen.csv", text, words)


@pytest.mark.parametrize(
    "cells, words",
    [
        *((f"50\t9\t{quoted(url)}\t", "url is .*; expected http://") for url in BAD_URLS),
        *((f"50\t9\t\t{md5}", "md5 is .*; expected 32 hex.*or nothing") for md5 in BAD_DIGESTS),
        *((cells, "(fps|duration) is .*at most") for cells in NO_FRAME_COUNTS),
    ],
)
def test_what_is_no_rate_length_address_or_digest_is_refused_with_its_line(tmp_path, cells, words):
    text = f"{SHEET}P01_01\tP01\ttrain\t{cells}\n"
    assert_refused(read_sheet, tmp_path / "videos.tsv", text, rf"videos\.tsv: line 2: {words}")


def test_numbers_too_long_for_python_are_refused(tmp_path):
    text, words = "verb\n" + "9" * 5000 + "\n", "line 2: verb is .*expected a class id"
    assert_refused(partial(read_list, key="tail_verbs"), tmp_path / "tail.csv", text, words)
    assert whole_number("9" * 19) is None and whole_number("007") == 7


@pytest.mark.parametrize("line", ["9" * 5000 + " 1", "1 " + "9" * 5000])
def test_a_pair_of_5_000_digits_is_refused_with_its_line(tmp_path, line):
    (tmp_path / "pairs.txt").write_text(f"0 1\n{line}\n")
    with pytest.raises(EpicError, match=r"pairs\.txt: line 2: "):
        read_pair_order(tmp_path / "pairs.txt")


@pytest.mark.parametrize("make, words", [
    (os.mkfifo, "a pipe or a device; expected a file"),
    (lambda path: path.symlink_to("/dev/zero"), "a pipe or a device; expected a file"),
    (lambda path: path.write_text("[" * 100_000), "no JSON"),
    (lambda path: path.write_text('{"a": 1'), "no JSON"),
    (lambda path: path.write_bytes(b"\xff"), "no JSON"),
    (lambda path: os.truncate(path, 2**27) if path.write_text("") == 0 else None, "over 64 MiB"),
], ids=["pipe", "endless", "deep", "cut", "no text", "large"])  # fmt: skip
def test_a_json_of_a_stranger_ends_in_one_line_and_soon(tmp_path, make, words):
    path = tmp_path / "metrics.json"
    make(path)
    with pytest.raises(EpicError, match=words) as error:
        read_json(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("read", [read_sheet, read_segments])
def test_a_table_that_claims_gigabytes_is_refused_unread(tmp_path, read):
    path = tmp_path / "videos.tsv"
    path.touch()
    # The file is one hole: no byte of it is on the disk.
    os.truncate(path, 20 * 2**30)
    with pytest.raises(EpicError, match=r"videos\.tsv: 20480 MiB; expected .*64 MiB"):
        read(path)


def test_a_segment_list_with_control_characters_is_refused_and_they_are_shown_escaped(tmp_path):
    text = "P01/P01_01.MP4\x1b[2J 0 60 1 2\n"
    assert_refused(read_segments, tmp_path / "train.txt", text, r"train\.txt: line 1: ")


def test_honest_names_and_addresses_pass():
    assert all(map(NAME.fullmatch, ("P01", "P01_101", "P01_101_99", "lab-7", "0")))
    assert is_url("https://data.bris.ac.uk/datasets/3h9/videos/train/P01/P01_01.MP4?a=b&c=%20#d")
    assert is_url("http://127.0.0.1:8080/a") and is_url("http://[::1]:80/a")
    assert printable("café\n\ttext") == "café\n\ttext"
    assert printable("\x1b[2J\u202e") == r"\x1b[2J\u202e"


@pytest.mark.slow
def test_a_command_in_a_participant_s_name_never_reaches_a_shell(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    sheet = tmp_path / "config/demo_videos.tsv"
    sheet.write_text(sheet.read_text().replace("\tP01\t", "\tP01$(touch${IFS}ran)\t"))
    done = run_snakemake(
        "results/submission.pt", "--directory", str(tmp_path), "--configfile", "config/demo.yaml",
        "--snakefile", str(ROOT / "Snakefile"), cwd=tmp_path, well=False,
    )  # fmt: skip
    assert "demo_videos.tsv: line 2: participant_id is 'P01$(touch${IFS}ran)'" in done.stderr
    assert not list(tmp_path.rglob("ran"))
