from pathlib import Path

import pytest

from epic100.base.disk import digest
from epic100.base.errors import EpicError
from epic100.base.text_table import write_table
from epic100.download.annotations import (
    COLUMNS,
    NAMES,
    download_annotations,
    log_origin,
    read_pins,
    verify_annotations,
)
from epic100.download.fetch import FetchSettings
from support.checkout import ROOT
from support.fault_server import cut

HASTY = FetchSettings(tries=2, stall_seconds=1, pause_seconds=0.01)


@pytest.fixture
def pins(tmp_path, server):
    """The sheet, with all kinds of checksums, of the official files, which a server has."""
    rows = []
    for number, name in enumerate(NAMES.values()):
        (tmp_path / name).write_text(f"{name}\n" * 50)
        found = digest(tmp_path / name, ("md5", "sha256", "git")[number % 3])
        url = server.put(name, (tmp_path / name).read_bytes(), cut(100))
        rows.append((name, url, f"{found.kind}:{found.value}"))
    write_table(tmp_path / "pins.tsv", COLUMNS, rows)
    return tmp_path / "pins.tsv"


def test_files_come_from_where_the_sheet_says_and_one_that_is_not_the_pinned_one_is_named(
    pins, tmp_path
):
    files, ok = {key: str(tmp_path / "new" / name) for key, name in NAMES.items()}, tmp_path / "ok"
    download_annotations(files, pins, settings=HASTY)
    verify_annotations(files, pins, ok)
    assert len(ok.read_text().splitlines()) == len(NAMES)
    for name in NAMES.values():
        assert (tmp_path / "new" / name).read_bytes() == (tmp_path / name).read_bytes()
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
    for kept, words in ((lines[:-1], "no row of EPIC_100_noun_classes"),
                        ([*lines[:2], lines[2][:-1]], "line 3: checksum is")):  # fmt: skip
        pins.write_text("\n".join(kept))
        with pytest.raises(EpicError, match=rf"pins\.tsv: {words}"):
            read_pins(pins)


def test_a_csv_is_held_against_the_official_file_s_checksum(pins, tmp_path, caplog):
    caplog.set_level("INFO", "epic100")
    for split in ("train", "val", "test"):
        path = tmp_path / NAMES[split]
        log_origin(path, split, pins)
        path.write_text(path.read_text()[: -len(path.name) - 1])  # its last line is gone
        log_origin(path, split, pins)
        official, other = caplog.records[-2:]
        assert official.message == f"{path}: the official {path.name}, by its checksum"
        assert other.levelname == "WARNING"
        assert f"{path}: not the official {path.name}, by its checksum; ex" in other.message
    with pytest.raises(EpicError, match=r"none\.csv: no such file; .*`annotations: val:`"):
        log_origin(tmp_path / "none.csv", "val", pins)
