"""Files that must be the right ones: start weights, pinned annotations, videos of the sheet."""

import hashlib
import re
from contextlib import nullcontext
from pathlib import Path

import mmaction
import pytest
import torch
import yaml

from epic100.base.disk import digest
from epic100.base.errors import EpicError
from epic100.base.text_table import write_table
from epic100.data.downloads import (
    COLUMNS,
    NAMES,
    OWN_DATA,
    data_name,
    download_video,
    read_pins,
    verify_annotations,
    write_videos_ok,
)
from epic100.data.fetch import part_path
from epic100.data.official_lists import DATA_SET
from epic100.data.start_weights import (
    StartWeights,
    check_weights,
    fetch_weights,
    kept_at,
    probe,
    start_weights,
)
from epic100.settings.config import read_settings
from epic100.settings.training import TrainSettings
from epic100.video.scan_table import ScanRow, write_scan_table
from epic100.video.sheet import Video
from support.checkout import ROOT
from support.crafted import saved
from support.failing_server import cut

ZOO = Path(mmaction.__file__).parent / ".mim/configs/recognition"
# This config fine-tunes weights of the model zoo.
RECIPE = ROOT / "config/x3d_s_epic_rgb_segments.py"


def test_each_model_url_is_in_mmaction2_s_metafiles():
    known = {
        model["Weights"]
        for metafile in ZOO.rglob("metafile.yml")
        for model in yaml.safe_load(metafile.read_text())["Models"]
        if "Weights" in model
    }
    files = [*(ROOT / "config").rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    named = {
        url
        for file in files
        for url in re.findall(r"https://download\.openmmlab\.com/[^\s\"')]+", file.read_text())
    }
    assert start_weights(TrainSettings(), RECIPE).source in named
    assert named <= known


@pytest.mark.parametrize(
    ("settings", "config"),
    [
        pytest.param(TrainSettings(from_scratch=True), RECIPE.name, id="by the setting"),
        (TrainSettings(), "x3d_s_epic_from_scratch.py"),
        (TrainSettings(), "x3d_demo.py"),
        (TrainSettings(), "slowonly_demo.py"),
    ],
)
def test_a_random_start_is_set_or_configured(settings, config):
    assert start_weights(settings, ROOT / "config" / config) is None
    with pytest.raises(EpicError, match="schedule for fine-tuning.*from_scratch.py.*`train: from_"):
        start_weights(TrainSettings(load_from=None), RECIPE)


def test_weights_are_set_or_in_a_base_config(tmp_path):
    assert start_weights(TrainSettings(load_from="a.pth"), RECIPE).path == "a.pth"
    derived = tmp_path / "mine.py"
    derived.write_text(f'_base_ = "{RECIPE}"\n')
    assert start_weights(TrainSettings(), derived) == start_weights(TrainSettings(), RECIPE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param('load_from = f"{folder}/a.pth"\n', "`load_from` is not a plain value", id="f"),
        pytest.param("load_from = (", "this MMEngine config cannot be read", id="no Python"),
    ],
)
def test_a_config_with_unreadable_weights_is_an_error(text, words, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(EpicError, match=rf"mine.py: {words}"):
        start_weights(TrainSettings(), path)


def test_each_weights_url_has_its_own_path():
    urls = [
        "https://a.org/x/m.pth",
        "https://b.org/x/m.pth",
        "https://a.org/m.pth?v=1&w=/2",
        "https://a.org:8080/%2e%2e/m.pth",
    ]
    paths = [kept_at(url) for url in urls]
    assert len(set(paths)) == 4
    assert paths[0] == "weights/a.org/x/m.pth"
    assert all(path.startswith("weights/") and ".." not in path.split("/") for path in paths)


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://a.org/m.pth", "file:///etc/passwd", "http://?a=b", "http://a.org:99999/m.pth"),
        *("https://a.org", "https://a.org/../m", "https://a.org/..?a=b"),
    ],
)
def test_urls_without_file_or_protocol_are_rejected(url):
    with pytest.raises(EpicError, match="expected a file, or the http"):
        kept_at(url)


def test_weights_without_a_url_are_rejected():
    with pytest.raises(EpicError, match="config: train.load_from is .*expected a file, or the URL"):
        read_settings({"train": {"load_from": "http://?a=b"}})


PAGE = b"<!DOCTYPE html><title>Not found</title>"


@pytest.mark.parametrize(
    ("content", "note"),
    [
        pytest.param(b"PK other weights", "", id="other weights"),
        pytest.param(PAGE, r" \(it is a web page\)", id="a web page"),
    ],
)
def test_weights_must_match_their_name_s_digest(server, tmp_path, content, note):
    url = server.put("x3d-0123abcd.pth", content)
    path = tmp_path / "x3d-0123abcd.pth"
    sha256 = hashlib.sha256(content).hexdigest()
    words = rf"x3d-0123abcd.pth: sha256 is {sha256}{note}; expected 0123abcd, the hash in its name"
    with pytest.raises(EpicError, match=words):
        fetch_weights(StartWeights(url, str(path)))
    # The part of the download is removed as well.
    assert list(tmp_path.iterdir()) == []


CHECKPOINT = saved({"state_dict": {"a": torch.ones(3)}})
SHA256 = hashlib.sha256(CHECKPOINT).hexdigest()
ZEROS = "0" * 64


@pytest.mark.parametrize(
    ("name", "content", "sha256", "words"),
    [
        pytest.param("x3d-0123abcd.pth", CHECKPOINT, SHA256, None, id="the digest of the config"),
        pytest.param(
            "x3d-0123abcd.pth",
            CHECKPOINT,
            ZEROS,
            f"sha256 is {SHA256}; expected {ZEROS}, `train: l",
            id="not the digest of the config",
        ),
        pytest.param("x.pth", PAGE, None, "x.pth: not a checkpoint", id="a web page"),
        pytest.param("x.pth", b"", None, "x.pth: not a checkpoint", id="empty"),
        pytest.param("x.pth", None, None, "x.pth: no such weights", id="no file"),
    ],
)
def test_weights_are_checked_by_digest_or_as_checkpoint(tmp_path, name, content, sha256, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(EpicError, match=words) if words else nullcontext():
        check_weights(StartWeights("https://a.org/x", str(tmp_path / name), sha256))


def test_a_probe_ends_before_the_body_comes(server):
    # The server sends 3 of 7 bytes, which would be an error of a download.
    probe(StartWeights(server.put("x.pth", b"weights", cut(3)), "weights/x.pth"))


@pytest.fixture
def pins(tmp_path):
    """A sheet of annotation files with all three types of checksums; the files are next to it."""
    rows = []
    for number, name in enumerate(NAMES.values()):
        (tmp_path / name).write_text(f"{name}\n" * 50)
        checksum = digest(tmp_path / name, ("md5", "sha256", "git")[number % 3])
        rows.append((name, f"https://a.org/{name}", f"{checksum.algorithm}:{checksum.value}"))
    write_table(tmp_path / "pins.tsv", COLUMNS, rows)
    return tmp_path / "pins.tsv"


def test_no_receipt_without_the_pinned_bytes(pins, tmp_path):
    files = {key: str(tmp_path / name) for key, name in NAMES.items()}
    Path(files["val"]).write_text("an older version\n")
    with pytest.raises(EpicError, match=r"ok: not written: .*validation\.csv"):
        verify_annotations(files, pins, tmp_path / "ok")
    assert not (tmp_path / "ok").exists()


def test_the_sheet_pins_files_to_one_commit():
    commit = "ea8b40457a400c3fffa1c7f406ef3dc169cc2522"
    for key, pin in read_pins(ROOT / "config/annotations.tsv").items():
        assert pin.name == NAMES[key]
        assert pin.url.endswith(f"/{commit}/{pin.name}")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(
            lambda lines: lines[:-1], "no row of EPIC_100_noun_classes", id="a row is missing"
        ),
        pytest.param(
            lambda lines: [*lines[:2], lines[2][:-1]], "line 3: checksum is", id="a short checksum"
        ),
        pytest.param(
            lambda lines: [*lines[:2], lines[2].replace("a.org", "a.org:99999")],
            "line 3: url is .*; expected http",
            id="no URL",
        ),
    ],
)
def test_an_incomplete_sheet_of_files_is_an_error(spoil, words, pins):
    lines = pins.read_text().splitlines()
    pins.write_text("\n".join(spoil(lines)))
    with pytest.raises(EpicError, match=rf"pins\.tsv: {words}"):
        read_pins(pins)


@pytest.mark.parametrize(
    ("is_official", "name", "expected"),
    [
        pytest.param(True, None, DATA_SET, id="official bytes"),
        pytest.param(False, None, OWN_DATA, id="other bytes"),
        pytest.param(False, "Kitchen of a lab", "Kitchen of a lab", id="named in the config"),
    ],
)
def test_config_or_checksum_names_the_data_set(is_official, name, expected, pins):
    csv = pins.parent / NAMES["val"]
    if not is_official:
        csv.write_text("narration_id\nP01_01_0\n")
    assert data_name(csv, pins, name) == expected


CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.mark.parametrize(
    ("md5", "verdict"), [(MD5, "md5 as the sheet says"), ("", "the sheet has no md5 to hold it to")]
)
def test_a_download_logs_progress_and_verdict(server, tmp_path, caplog, monkeypatch, md5, verdict):
    monkeypatch.setattr("epic100.base.log.PLAIN_SECONDS", 0.0)
    video = Video("P01_01", "P01", "train", 50.0, 60.0, server.put("P01_01.MP4", CONTENT), md5)
    path = video.path(tmp_path)
    path.parent.mkdir()
    part_path(path).write_bytes(CONTENT[: len(CONTENT) // 2])
    download_video(video, tmp_path)
    assert path.read_bytes() == CONTENT
    # The file has 1.024 MB.
    assert any(line.startswith("P01_01: 1/1 MB, ") and " left" in line for line in caplog.messages)
    assert "P01_01: 1 MB in" in caplog.text and verdict in caplog.text
    with pytest.raises(EpicError, match=r"P01_01\.MP4: there already; .*writes over nothing"):
        download_video(video, tmp_path)


NO_MD5, OTHER_MD5 = "", "0" * 32


@pytest.mark.parametrize(
    ("rows", "answer"),
    [
        pytest.param(
            [("ok", MD5, MD5), ("damaged", MD5, MD5.upper()), ("ok", OTHER_MD5, NO_MD5)],
            "3 videos: 2 verified, 1 unverified\n",
            id="all right",
        ),
        pytest.param(
            [
                *(("missing", NO_MD5, MD5), ("ok", OTHER_MD5, MD5)),
                *(("unreadable", NO_MD5, MD5), ("ok", MD5, MD5)),
            ],
            r"3 of 4 videos .*: P01_00 missing, P01_01 wrong, P01_02 unreadable; all are in ",
            id="three wrong",
        ),
        pytest.param(
            [("ok", OTHER_MD5, MD5)] * 7, r"7 of 7 videos .*, P01_04 wrong and 2 more; ", id="many"
        ),
    ],
)
def test_videos_must_match_the_sheet_s_md5(rows, answer, tmp_path):
    """A row has the status and md5 by the scan, and the md5 in the sheet."""
    table, ok = tmp_path / "P01.tsv", tmp_path / "videos.ok"
    videos, scanned = [], []
    for number, (status, md5, expected) in enumerate(rows):
        name = f"P01_0{number}"
        scanned.append(ScanRow(name, status, md5=md5))
        videos.append(Video(name, "P01", "train", 50.0, 9.0, md5=expected))
    write_scan_table(scanned, table)
    is_right = answer.endswith("\n")
    with nullcontext() if is_right else pytest.raises(EpicError, match=answer):
        write_videos_ok(videos, [table], ok)
    assert (ok.read_text() if ok.exists() else "") == (answer if is_right else "")
