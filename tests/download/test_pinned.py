"""Files that must be the right ones: weights to start from, annotations at a pinned commit."""

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
from epic100.download.annotations import (
    COLUMNS,
    NAMES,
    OWN_DATA,
    data_name,
    read_pins,
    verify_annotations,
)
from epic100.download.part import part_path
from epic100.download.weights import (
    StartWeights,
    check_weights,
    fetch_weights,
    kept_at,
    probe,
    read_value,
    start_weights,
)
from epic100.segments.official_lists import DATA_SET
from epic100.settings import TrainSettings
from support.checkout import ROOT
from support.crafted import saved
from support.fault_server import cut, status

ZOO = Path(mmaction.__file__).parent / ".mim/configs/recognition"
RECIPE = ROOT / "config/x3d_s_epic_rgb_segments.py"
PAGE = b"<!DOCTYPE html><title>Not found</title>"
CHECKPOINT = saved({"state_dict": {"a": torch.ones(3)}})


def test_every_url_of_the_model_zoo_in_configs_and_docs_is_one_of_its_metafiles():
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
    assert start_weights(TrainSettings(), RECIPE).source in named <= known


def test_a_random_start_must_be_meant(tmp_path):
    with pytest.raises(EpicError, match="schedule for fine-tuning.*from_scratch.py.*`train: from_"):
        start_weights(TrainSettings(load_from=None), RECIPE)
    assert start_weights(TrainSettings(from_scratch=True), RECIPE) is None
    for made_for_it in ("x3d_s_epic_from_scratch.py", "x3d_demo.py", "slowonly_demo.py"):
        assert start_weights(TrainSettings(), ROOT / "config" / made_for_it) is None
    assert start_weights(TrainSettings(load_from="a.pth"), RECIPE).path == "a.pth"
    mine = tmp_path / "mine.py"
    mine.write_text(f'_base_ = ["{RECIPE}"]\nload_from = f"{{folder}}/a.pth"\n')
    with pytest.raises(EpicError, match=r"mine.py: `load_from` is not a plain value"):
        start_weights(TrainSettings(), mine)
    mine.write_text(f'_base_ = "{RECIPE}"\n')
    assert start_weights(TrainSettings(), mine) == start_weights(TrainSettings(), RECIPE)
    with pytest.raises(EpicError, match="none.py: this MMEngine config cannot be read"):
        read_value(tmp_path / "none.py", "load_from")


def test_files_are_kept_by_url_and_stay_below_the_folder():
    urls = [
        "https://a.org/x/m.pth",
        "https://b.org/x/m.pth",
        "https://a.org/m.pth?v=1&w=/2",
        "https://a.org:8080/%2e%2e/m.pth",
    ]
    paths = [kept_at(url) for url in urls]
    assert len(set(paths)) == 4 and paths[0] == "weights/a.org/x/m.pth"
    assert all(path.startswith("weights/") and ".." not in path.split("/") for path in paths)
    for url in ("ftp://a.org/m.pth", "file:///etc/passwd", "https://a.org", "https://a.org/../m"):
        with pytest.raises(EpicError, match="expected a file, or the http"):
            kept_at(url)


@pytest.mark.parametrize("content", [b"PK other weights", PAGE])
def test_a_wrong_file_is_not_kept_and_both_digests_are_said(server, tmp_path, content):
    url = server.put("x3d-0123abcd.pth", content)
    weights = StartWeights(url, str(tmp_path / "x3d-0123abcd.pth"))
    digest = hashlib.sha256(content).hexdigest()
    words = rf"x3d-0123abcd.pth: sha256 is {digest}.*; expected 0123abcd, the hash in its name"
    with pytest.raises(EpicError, match=words) as caught:
        fetch_weights(weights)
    assert ("web page" in str(caught.value)) == (content == PAGE)
    assert not Path(weights.path).exists() and not part_path(Path(weights.path)).exists()
    (tmp_path / "x3d-0123abcd.pth").write_bytes(content)
    with pytest.raises(EpicError, match=words):
        check_weights(weights)


SHA256, ZEROS = hashlib.sha256(CHECKPOINT).hexdigest(), "0" * 64


@pytest.mark.parametrize(
    "name, content, expected, words",
    [
        ("x3d-0123abcd.pth", CHECKPOINT, SHA256, None),
        ("x3d-0123abcd.pth", CHECKPOINT, ZEROS, f"sha256 is {SHA256}; expected {ZEROS}, `train: l"),
        ("x.pth", PAGE, None, "x.pth: not a checkpoint"),
        ("x.pth", b"", None, "x.pth: not a checkpoint"),
        ("none.pth", None, None, "none.pth: no such weights"),
    ],
)
def test_a_digest_in_the_config_goes_before_the_name_and_without_both_it_must_be_a_checkpoint(
    tmp_path, name, content, expected, words
):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(EpicError, match=words) if words else nullcontext():
        check_weights(StartWeights("https://a.org/x", str(tmp_path / name), expected))


def test_a_look_at_a_url_does_not_wait_for_the_file_and_without_an_answer_its_place_is_named(
    server,
):
    probe(StartWeights(server.put("x.pth", b"weights", cut(3)), "weights/x.pth"))
    url = server.put("y.pth", b"", status(404))
    gone = server.put("none.pth", b"").replace(str(server.server_port), "9")
    for source, reason in ((url, "HTTP 404"), (gone, "Failed to connect")):
        with pytest.raises(EpicError, match=rf"^{source}: .*\({reason}.*put it at weights/x.pth"):
            probe(StartWeights(source, "weights/x.pth"))


@pytest.fixture
def pins(tmp_path):
    """The sheet, with all kinds of checksums, of the official files."""
    rows = []
    for number, name in enumerate(NAMES.values()):
        (tmp_path / name).write_text(f"{name}\n" * 50)
        checksum = digest(tmp_path / name, ("md5", "sha256", "git")[number % 3])
        rows.append((name, f"https://a.org/{name}", f"{checksum.kind}:{checksum.value}"))
    write_table(tmp_path / "pins.tsv", COLUMNS, rows)
    return tmp_path / "pins.tsv"


def test_a_file_that_is_not_the_pinned_one_is_named_and_there_is_no_receipt(pins, tmp_path):
    files, ok = {key: str(tmp_path / name) for key, name in NAMES.items()}, tmp_path / "ok"
    verify_annotations(files, pins, ok)
    assert len(ok.read_text().splitlines()) == len(NAMES)
    ok.unlink()
    Path(files["val"]).write_text("an older version\n")
    with pytest.raises(EpicError, match=r"ok: not written: .*validation\.csv"):
        verify_annotations(files, pins, ok)
    assert not ok.exists()


def test_the_sheet_that_ships_pins_every_file_to_one_commit():
    pins = read_pins(ROOT / "config/annotations.tsv")
    commit = "ea8b40457a400c3fffa1c7f406ef3dc169cc2522"
    for key, pin in pins.items():
        assert pin.name == NAMES[key] and pin.url.endswith(f"/{commit}/{pin.name}")


def test_a_sheet_without_an_official_file_or_with_a_bad_checksum_is_one_error(pins):
    lines = pins.read_text().splitlines()
    for kept, words in (
        (lines[:-1], "no row of EPIC_100_noun_classes"),
        ([*lines[:2], lines[2][:-1]], "line 3: checksum is"),
    ):
        pins.write_text("\n".join(kept))
        with pytest.raises(EpicError, match=rf"pins\.tsv: {words}"):
            read_pins(pins)


def test_data_is_known_by_its_official_checksum_and_else_by_the_name_that_the_config_gives(pins):
    csv = pins.parent / NAMES["val"]
    assert data_name(csv, pins) == DATA_SET
    csv.write_text("narration_id\nP01_01_0\n")
    assert data_name(csv, pins) == OWN_DATA
    assert data_name(csv, pins, "Kitchen of a lab") == "Kitchen of a lab"
