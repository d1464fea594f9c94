"""Names, texts and pipes in sheets, lists and records: none leaves its folder, word or page."""

import os
import shutil
from functools import partial

import pytest

from epic100.base.disk import LARGEST_TEXT, digest, read_json, read_text
from epic100.base.errors import BrokenFile, EpicError
from epic100.base.hold import RECORD, read_run
from epic100.base.names import NAME, is_url, printable, whole_number
from epic100.download.weights import read_value
from epic100.migrate.checkpoint import read_pair_order
from epic100.segments.official_lists import read_list
from epic100.segments.segment_list import read_segments
from epic100.video.sheet import read_sheet
from snakemake_logger_plugin_epic100.logs import lines_of
from support.checkout import ROOT, run_snakemake
from support.fuzzing import read_csv

BAD_WORDS = r"""
    P01$(id>x) P01`id` P01;id P01|id P01& P01>x .. ../P01 .hidden -rf --wrap P01' P01" P01\ <b>
    {participant} * ~ javascript:alert(1)
"""
BAD_NAMES = (
    *BAD_WORDS.split(),
    *("P01 02", "P01\x1b[2J", "P01\x00", "P01\u202e", "P0\u0661", "Ｐ01", "P" * 101, ""),
)
BAD_URLS = [
    "file:///etc/passwd",
    "ftp://x/a",
    "http:///a",
    "https://user:pw@host/a",
    "javascript:alert(1)",
    "https://x/</script><script>alert(1)</script>",
    "https://x/a b",
    "https://x/'",
    'https://x/"',
    "https://x/\x1b",
    "https://x/`id`",
    "https://x/" + "a" * 2000,
    "//x/a",
    "x/a",
]
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


DIGITS = "9" * 5000


@pytest.mark.parametrize(
    "read, text, words",
    [
        (
            partial(read_list, key="tail_verbs"),
            f"verb\n{DIGITS}\n",
            "2: verb .*expected a class id",
        ),
        (read_pair_order, f"0 1\n{DIGITS} 1\n", "2: "),
        (read_pair_order, f"0 1\n1 {DIGITS}\n", "2: "),
        (read_segments, "P01/P01_01.MP4\x1b[2J 0 60 1 2\n", "1: "),
    ],
)
def test_numbers_too_long_for_python_and_control_characters_are_refused(
    tmp_path, read, text, words
):
    assert_refused(read, tmp_path / "list.txt", text, rf"list\.txt: line {words}")


@pytest.mark.parametrize("read", [read_sheet, read_segments])
def test_a_table_that_claims_gigabytes_is_refused_unread(tmp_path, read):
    path = tmp_path / "videos.tsv"
    path.touch()
    # The file is one hole: no byte of it is on the disk.
    os.truncate(path, 20 * 2**30)
    with pytest.raises(EpicError, match=r"videos\.tsv: 20480 MiB; expected .*64 MiB"):
        read(path)


def test_honest_names_and_addresses_pass():
    assert all(map(NAME.fullmatch, ("P01", "P01_101", "P01_101_99", "lab-7", "0")))
    assert is_url("https://data.bris.ac.uk/datasets/3h9/videos/train/P01/P01_01.MP4?a=b&c=%20#d")
    assert is_url("http://127.0.0.1:8080/a") and is_url("http://[::1]:80/a")
    assert whole_number("9" * 19) is None and whole_number("007") == 7
    assert printable("café\n\ttext") == "café\n\ttext"
    assert printable("\x1b[2J\u202e") == r"\x1b[2J\u202e"


@pytest.mark.slow
def test_a_command_in_a_participant_s_name_never_reaches_a_shell(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    sheet = tmp_path / "config/demo_videos.tsv"
    sheet.write_text(sheet.read_text().replace("\tP01\t", "\tP01$(touch${IFS}ran)\t"))
    words = (
        f"results/submission.pt --directory {tmp_path} --configfile config/demo.yaml "
        f"--snakefile {ROOT}/Snakefile"
    )
    done = run_snakemake(*words.split(), cwd=tmp_path, well=False)
    assert "demo_videos.tsv: line 2: participant_id is 'P01$(touch${IFS}ran)'" in done.stderr
    assert not list(tmp_path.rglob("ran"))


READERS = [
    read_text,
    read_json,
    read_pair_order,
    lambda path: read_value(path, "load_from"),
    lambda path: read_run(path.parents[1]),
]


@pytest.fixture
def file(tmp_path):
    """A file where each of `READERS` can read it."""
    (tmp_path / RECORD).parent.mkdir()
    return tmp_path / RECORD


@pytest.mark.parametrize("read", [*READERS, partial(digest, kind="md5")])
@pytest.mark.parametrize("plant", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_pipe_or_a_device_is_refused_at_once(file, read, plant):
    plant(file)
    with pytest.raises(EpicError, match="a pipe or a device; expected a file"):
        read(file)


@pytest.mark.parametrize("read", READERS)
def test_a_text_without_an_end_is_not_read_to_its_end(file, read):
    file.touch()
    # The file is one hole: no byte of it is on the disk.
    os.truncate(file, LARGEST_TEXT + 1)
    with pytest.raises(EpicError, match="over 64 MiB"):
        read(file)


@pytest.mark.parametrize("read", [read_json, READERS[-1]])
@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a": 1', b"\xff"])
def test_json_of_endless_depth_or_none_is_one_line(file, read, content):
    file.write_bytes(content)
    with pytest.raises(EpicError, match=f"{RECORD}: no JSON") as caught:
        read(file)
    assert "\n" not in str(caught.value)


def test_a_log_that_is_a_pipe_has_no_lines(tmp_path):
    os.mkfifo(tmp_path / "scan.log")
    assert lines_of(str(tmp_path / "scan.log")) == []


def test_a_name_that_would_write_a_line_of_its_own_is_refused_in_one(tmp_path):
    path = tmp_path / "a\nerror: all is lost"
    path.write_text("x")
    with pytest.raises(BrokenFile, match="a.nerror: all is lost: has a line break") as caught:
        read_text(path)
    assert "\n" not in str(caught.value)
