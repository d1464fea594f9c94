from pathlib import Path

import pytest

from epic100.base.checksum import digest
from epic100.base.errors import EpicError
from epic100.download.annotations import (
    NAMES,
    download_annotations,
    log_origin,
    read_pins,
    verify_annotations,
)
from epic100.download.fetch import FetchSettings
from support.fault_server import cut

ROOT = Path(__file__).resolve().parents[2]
HASTY = FetchSettings(tries=2, stall_seconds=1, pause_seconds=0.01)


@pytest.fixture
def kitchen(tmp_path, server):
    """The official files behind a server, and their sheet with all kinds of checksums."""
    lines = ["name\turl\tchecksum"]
    for number, name in enumerate(NAMES.values()):
        original = tmp_path / name
        original.write_text(f"{name}\n" * 50)
        checksum = digest(original, ("md5", "sha256", "git")[number % 3])
        url = server.put(name, original.read_bytes(), cut(100))
        lines.append(f"{name}\t{url}\t{checksum.kind}:{checksum.value}")
    (tmp_path / "pins.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_files_come_from_where_the_sheet_says_and_are_the_pinned_ones(kitchen):
    files = {key: str(kitchen / "annotations" / name) for key, name in NAMES.items()}
    download_annotations(files, kitchen / "pins.tsv", settings=HASTY)
    verify_annotations(files, kitchen / "pins.tsv", kitchen / "annotations.ok")
    assert len((kitchen / "annotations.ok").read_text().splitlines()) == len(NAMES)
    for name in NAMES.values():
        assert (kitchen / "annotations" / name).read_bytes() == (kitchen / name).read_bytes()


def test_a_file_that_is_not_the_pinned_one_is_named(kitchen):
    files = {key: str(kitchen / name) for key, name in NAMES.items()}
    Path(files["val"]).write_text("an older version\n")
    with pytest.raises(EpicError, match=r"annotations\.ok: not written: .*validation\.csv"):
        verify_annotations(files, kitchen / "pins.tsv", kitchen / "annotations.ok")
    assert not (kitchen / "annotations.ok").exists()


def test_the_sheet_that_ships_pins_every_file_to_one_commit():
    pins = read_pins(ROOT / "config/annotations.tsv")
    commits = {pin.url.split("/")[-2] for pin in pins.values()}
    assert commits == {"ea8b40457a400c3fffa1c7f406ef3dc169cc2522"}
    for key, pin in pins.items():
        assert pin.name == NAMES[key] and pin.url.endswith(f"/{pin.name}")


def test_a_sheet_without_an_official_file_or_with_a_bad_checksum_is_one_error(kitchen):
    sheet = kitchen / "pins.tsv"
    lines = sheet.read_text().splitlines()
    sheet.write_text("\n".join(lines[:-1]))
    with pytest.raises(EpicError, match=r"pins\.tsv: no row of EPIC_100_noun_classes"):
        read_pins(sheet)
    sheet.write_text("\n".join([*lines[:2], lines[2][:-1]]))
    with pytest.raises(EpicError, match=r"pins\.tsv: line 3: checksum is"):
        read_pins(sheet)


def test_a_csv_is_held_against_the_official_file_s_checksum(kitchen, caplog):
    caplog.set_level("INFO", "epic100")
    for split in ("train", "val", "test"):
        path = kitchen / NAMES[split]
        log_origin(path, split, kitchen / "pins.tsv")
        assert f"{path}: the official {NAMES[split]}, by its checksum" in caplog.text
        path.write_text(path.read_text()[: -len(NAMES[split]) - 1])  # its last line is gone
        caplog.clear()
        log_origin(path, split, kitchen / "pins.tsv")
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert f"{path}: not the official {NAMES[split]}, by its checksum; ex" in record.message


def test_a_csv_that_is_not_there_is_named_with_its_key(kitchen):
    with pytest.raises(EpicError, match=r"none\.csv: no such file; .*`annotations: val:`"):
        log_origin(kitchen / "none.csv", "val", kitchen / "pins.tsv")
