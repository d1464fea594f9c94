"""Names in sheets and lists that would leave their folder, their shell word or their page."""

import shutil

import pytest

from epic100.base.errors import EpicError
from epic100.base.names import is_name, is_url, printable, whole_number
from epic100.segments.annotations import load_annotations
from epic100.segments.official_lists import read_list
from epic100.segments.segment_list import read_segments
from epic100.video.sheet import Video, read_sheet
from support.checkout import ROOT, run_snakemake

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
SHEET = "video_id\tparticipant_id\tsplit\tfps\tduration\turl\tmd5\n"
CSV = "narration_id,video_id,start_timestamp,stop_timestamp,verb_class,noun_class\n"


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_an_id_of_the_sheet_that_is_no_name_is_refused_with_its_line(tmp_path, column, name):
    path, fields = tmp_path / "videos.tsv", ["P01_01", "P01", "train", "50", "9"]
    fields[column] = quoted(name)
    path.write_text(SHEET + "P02_02\tP02\ttrain\t50\t9\n" + "\t".join(fields) + "\n")
    with pytest.raises(EpicError, match=r"videos\.tsv: line 3: .*_id is .*; expected a name") as no:
        read_sheet(path)
    assert str(no.value).isprintable()


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_narration_id_that_is_no_name_is_refused_with_its_line(tmp_path, name):
    path, videos = tmp_path / "train.csv", {"P01_01": Video("P01_01", "P01", "train", 50, 9)}
    path.write_text(f"{CSV}{quoted(name)},P01_01,00:00:01.00,00:00:02.00,1,2\n")
    with pytest.raises(EpicError, match=r"train\.csv: line 2 .*narration_id: .*; expected a name"):
        load_annotations(path, videos, split="train", classes={"verbs": 97, "nouns": 300})


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_participant_of_an_official_list_is_a_name(tmp_path, name):
    path = tmp_path / "unseen.csv"
    path.write_text(f"participant_id\n{quoted(name)}\n")
    with pytest.raises(EpicError, match=r"unseen\.csv: line 2: .*expected a participant id"):
        read_list(path, "unseen_participants")


@pytest.mark.parametrize("url", BAD_URLS)
def test_an_address_that_is_none_is_refused_with_its_line(tmp_path, url):
    path = tmp_path / "videos.tsv"
    path.write_text(f"{SHEET}P01_01\tP01\ttrain\t50\t9\t{quoted(url)}\t\n")
    with pytest.raises(EpicError, match=r"videos\.tsv: line 2: url is .*; expected http://"):
        read_sheet(path)


@pytest.mark.parametrize("md5", ["xyz", "0" * 31, "0" * 33, "g" * 32, "../" + "0" * 29])
def test_a_digest_that_is_none_is_refused_with_its_line(tmp_path, md5):
    path = tmp_path / "videos.tsv"
    path.write_text(f"{SHEET}P01_01\tP01\ttrain\t50\t9\t\t{md5}\n")
    with pytest.raises(EpicError, match=r"videos\.tsv: line 2: md5 is .*; expected 32 hex"):
        read_sheet(path)


@pytest.mark.parametrize("numbers", ["1e308\t1e308", "50\t1e7", "1e5\t9"])
def test_numbers_whose_product_no_frame_count_holds_are_refused(tmp_path, numbers):
    path = tmp_path / "videos.tsv"
    path.write_text(f"{SHEET}P01_01\tP01\ttrain\t{numbers}\n")
    with pytest.raises(EpicError, match=r"line 2: (fps|duration) is .*at most"):
        read_sheet(path)


def test_numbers_too_long_for_python_are_refused(tmp_path):
    path = tmp_path / "tail.csv"
    path.write_text("verb\n" + "9" * 5000 + "\n")
    with pytest.raises(EpicError, match="line 2: verb is .*expected a class id"):
        read_list(path, "tail_verbs")
    assert whole_number("9" * 19) is None and whole_number("007") == 7


def test_a_table_that_claims_gigabytes_is_refused_unread(tmp_path):
    path = tmp_path / "videos.tsv"
    with path.open("wb") as file:
        file.truncate(20 * 2**30)  # a hole: no byte of it is on the disk
    for read in (read_sheet, read_segments):
        with pytest.raises(EpicError, match=r"videos\.tsv: 20480 MiB; expected .*256 MiB"):
            read(path)


def test_a_segment_list_with_control_characters_is_refused_and_they_are_shown_escaped(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("P01/P01_01.MP4\x1b[2J 0 60 1 2\n")
    with pytest.raises(EpicError, match=r"train\.txt: line 1: ") as no:
        read_segments(path)
    assert str(no.value).isprintable()


def test_honest_names_and_addresses_pass():
    assert all(map(is_name, ("P01", "P01_101", "P01_101_99", "lab-7", "0")))
    assert is_url("https://data.bris.ac.uk/datasets/3h9/videos/train/P01/P01_01.MP4?a=b&c=%20#d")
    assert is_url("http://127.0.0.1:8080/a") and is_url("http://[::1]:80/a")
    assert printable("café\n\ttext") == "café\n\ttext"
    assert printable("\x1b[2J\u202e") == r"\x1b[2J\u202e"


def test_a_command_in_a_participant_s_name_never_reaches_a_shell(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    sheet = tmp_path / "config/demo_videos.tsv"
    sheet.write_text(sheet.read_text().replace("\tP01\t", "\tP01$(touch${IFS}ran)\t"))
    done = run_snakemake(
        "results/submission.pt", "--directory", str(tmp_path), "--configfile", "config/demo.yaml",
        "--snakefile", str(ROOT / "Snakefile"), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert "demo_videos.tsv: line 2: participant_id is 'P01$(touch${IFS}ran)'" in done.stderr
    assert not list(tmp_path.rglob("ran"))
