import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from epic100.base.errors import EpicError
from epic100.submission import (
    build,
    expected_ids,
    read_pickle,
    read_pt,
    write_pt,
    write_zip,
)
from epic100.submission.__main__ import main

V, M, N = 5, 8, 20
IDS = [f"P01_{video}_{i}" for video in (11, 101) for i in range(N // 2)]
SLS = {"pt": 2, "tl": 3, "td": 4}
SIZES = ["--num-verbs", str(V), "--num-nouns", str(M)]


def scores():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(N, size, generator=generator).log_softmax(dim=1) for size in (V, M)]


@pytest.fixture
def entries():
    return build(IDS, *scores())


@pytest.fixture
def annotations(tmp_path):
    path = tmp_path / "EPIC_100_validation.csv"
    path.write_text("narration_id,participant_id\n" + "".join(f"{i},P01\n" for i in IDS))
    return path


def assert_same(read, written):
    assert [e["narration_id"] for e in read] == [e["narration_id"] for e in written]
    for key in ("verb_output", "noun_output"):
        for a, b in zip(read, written, strict=True):
            assert a[key].dtype == torch.float32 and torch.equal(a[key], b[key])


def test_a_pt_file_reads_back_exactly_without_code_and_every_row_stands_alone(entries, tmp_path):
    verb, noun = scores()
    big = torch.zeros(1000, M)
    views = [e | {"noun_output": big[:N].copy_(noun)[i]} for i, e in enumerate(entries)]
    for written in (entries, views):
        write_pt(written, tmp_path / "s.pt")
        assert_same(read_pt(tmp_path / "s.pt"), entries)
        for entry in torch.load(tmp_path / "s.pt", weights_only=True):
            assert set(entry) == {"narration_id", "verb_output", "noun_output"}
            assert type(entry["narration_id"]) is str
            assert entry["verb_output"].untyped_storage().nbytes() == 4 * V
            assert entry["noun_output"].untyped_storage().nbytes() == 4 * M
    assert os.listdir(tmp_path) == ["s.pt"]


def test_build_takes_rows_out_of_other_tensors(entries):
    verb, noun = scores()
    built = build(IDS, verb.double(), noun)
    noun.zero_()
    assert_same(built, entries)


def test_the_zip_has_the_layout_of_the_server_and_the_same_float32(entries, tmp_path):
    extreme = torch.tensor([1e-38, -3.4e38, 0.1, -30.000002, 16777217.0])
    entries[0]["verb_output"] = extreme
    write_zip(entries, tmp_path / "s.zip", SLS)
    with zipfile.ZipFile(tmp_path / "s.zip") as archive:
        (member,) = archive.infolist()
        assert member.filename == "test.json" and member.compress_type == zipfile.ZIP_DEFLATED
        content = json.loads(archive.read(member))
    results = content.pop("results")
    fixed = {"version": "0.2", "challenge": "action_recognition"}
    assert content == {**fixed, "sls_pt": 2, "sls_tl": 3, "sls_td": 4}
    assert list(results) == IDS
    for entry in entries:
        result = results[entry["narration_id"]]
        assert set(result) == {"verb", "noun"}
        for task, size in (("verb", V), ("noun", M)):
            row = np.array([result[task][str(i)] for i in range(size)], dtype=np.float32)
            assert len(result[task]) == size
            assert np.array_equal(row, entry[f"{task}_output"].numpy())


def test_the_text_of_the_zip_is_what_json_makes_of_the_same_floats(entries, tmp_path):
    write_zip(entries, tmp_path / "s.zip", SLS)
    results = {
        entry["narration_id"]: {
            task: {str(i): score for i, score in enumerate(entry[f"{task}_output"].tolist())}
            for task in ("verb", "noun")
        }
        for entry in entries
    }
    # As utils/challenge.py of epic-kitchens/C1-Action-Recognition has it.
    head = {"version": "0.2", "challenge": "action_recognition", "sls_pt": 2, "sls_tl": 3}
    with zipfile.ZipFile(tmp_path / "s.zip") as archive:
        text = archive.read("test.json").decode()
    assert text == json.dumps({**head, "sls_td": 4, "results": results})


def test_files_of_the_same_entries_are_the_same_bytes(entries, tmp_path):
    write_zip(entries, tmp_path / "a.zip", SLS)
    write_pt(entries, tmp_path / "a.pt")
    write_zip(iter(entries), tmp_path / "b" / "b.zip", SLS)
    write_pt(entries, tmp_path / "b.pt")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b" / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_what_cannot_be_written_is_refused_and_leaves_the_old_file(entries, tmp_path):
    for name in ("s.pt", "s.zip"):
        (tmp_path / name).write_text("old")
    nan = [*entries[:-1], entries[-1] | {"noun_output": torch.full((M,), torch.nan)}]
    for bad, message in (
        (nan, f"segment {IDS[-1]} has NaN or infinity in its noun_output"),
        ([*entries, entries[0]], f"segment {IDS[0]} appears twice"),
    ):
        with pytest.raises(EpicError, match=message):
            write_pt(bad, tmp_path / "s.pt")
        with pytest.raises(EpicError, match=message):
            write_zip(bad, tmp_path / "s.zip", SLS)
    for sls in ({"pt": 2, "tl": 3}, SLS | {"td": 6}, SLS | {"tl": "3"}, SLS | {"xx": 1}):
        with pytest.raises(EpicError, match="supervision levels"):
            write_zip(entries, tmp_path / "s.zip", sls)
    verb, noun = scores()
    with pytest.raises(EpicError, match="20 narration ids with verb scores"):
        build(IDS, verb[:-1], noun)
    assert {(tmp_path / name).read_text() for name in ("s.pt", "s.zip")} == {"old"}
    assert sorted(os.listdir(tmp_path)) == ["s.pt", "s.zip"]


def test_a_truncated_pt_file_is_reported_at_any_end(entries, tmp_path):
    path = tmp_path / "s.pt"
    write_pt(entries, path)
    whole = path.read_bytes()
    for size in (len(whole) - 1, len(whole) * 3 // 4, len(whole) // 10, 50):
        path.write_bytes(whole[:size])
        with pytest.raises(EpicError, match=r"s\.pt: not a file of torch\.save, .*cut short"):
            read_pt(path)
    for content in (b"", b"P", b"\x80", b"\x80\x04K\x01.", b"not a tensor at all", bytes(1000)):
        path.write_bytes(content)
        with pytest.raises(EpicError, match=r"s\.pt: (not a file of torch.save|expected a list)"):
            read_pt(path)
    with pytest.raises(EpicError, match="no such file"):
        read_pt(tmp_path / "none.pt")


def test_a_flipped_bit_in_the_scores_is_reported(entries, tmp_path):
    path = tmp_path / "s.pt"
    write_pt(entries, path)
    whole = path.read_bytes()
    scores = entries[4]["noun_output"].numpy().tobytes()
    path.write_bytes(whole.replace(scores, scores[:5] + bytes([scores[5] ^ 1]) + scores[6:]))
    with pytest.raises(EpicError, match=r"s\.pt: .*checksum of archive/data/9 does not fit"):
        read_pt(path)


def test_a_foreign_zip_is_not_taken_for_a_pt_file(entries, tmp_path):
    write_zip(entries, tmp_path / "s.zip", SLS)
    os.rename(tmp_path / "s.zip", tmp_path / "s.pt")
    with pytest.raises(EpicError, match=r"s\.pt: not a file of torch.save"):
        read_pt(tmp_path / "s.pt")


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_code_in_a_file_is_not_run(entries, tmp_path, annotations, capsys):
    mark = tmp_path / "ran"
    torch.save([entries[0] | {"extra": Payload(mark)}], tmp_path / "s.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps([Payload(mark)]))
    (tmp_path / "s.pkl").write_bytes(pickle.dumps([Payload(mark)]))
    with pytest.raises(EpicError, match=r"s\.pt: .*\(holds \S*mkdir .* --allow-pickle"):
        read_pt(tmp_path / "s.pt")
    with pytest.raises(EpicError, match=r"plain\.pt: not a file of torch\.save"):
        read_pt(tmp_path / "plain.pt")
    assert main(["check", str(tmp_path / "s.pkl"), "--annotations", str(annotations)]) == 1
    assert "--allow-pickle" in capsys.readouterr().out
    assert not mark.exists()


def test_both_official_layouts_are_read(entries, tmp_path):
    verb, noun = scores()
    columns = {"verb_output": verb, "noun_output": noun, "narration_id": IDS}
    torch.save(columns, tmp_path / "dict.pt")
    assert_same(read_pt(tmp_path / "dict.pt"), entries)
    lists = [e | {"verb_output": e["verb_output"].tolist()} for e in entries]
    torch.save(lists, tmp_path / "list.pt")
    assert_same(read_pt(tmp_path / "list.pt"), entries)

    arrays = {key: np.asarray(value) for key, value in columns.items()}
    rows = [{key: value[i] for key, value in arrays.items()} for i in range(N)]
    for name, content in (("dict", arrays), ("list", rows)):
        (tmp_path / f"{name}.pkl").write_bytes(pickle.dumps(content))
        torch.save(content, tmp_path / f"{name}.pt")
        for suffix in (".pkl", ".pt"):
            read = read_pickle(tmp_path / f"{name}{suffix}")
            assert_same(read, entries)
            assert {type(e["narration_id"]) for e in read} == {str}
        with pytest.raises(EpicError, match="holds numpy.* no NumPy arrays; .*--allow-pickle"):
            read_pt(tmp_path / f"{name}.pt")
    (tmp_path / "bad.pkl").write_bytes(b"cposix\nnothing_of_this_name\n.")
    with pytest.raises(EpicError, match=r"bad\.pkl: cannot be unpickled"):
        read_pickle(tmp_path / "bad.pkl")


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {}},
        torch.zeros(3),
        [1, 2],
        [{"narration_id": "a", "verb_output": torch.zeros(V)}],
        [{"narration_id": "a", "verb_output": "x", "noun_output": torch.zeros(M)}],
        {"narration_id": ["a"], "verb_output": torch.zeros(2, V), "noun_output": torch.zeros(1, M)},
    ],
)
def test_another_layout_is_reported(content, tmp_path):
    torch.save(content, tmp_path / "s.pt")
    with pytest.raises(EpicError, match=r"s\.pt: expected a list of dicts with narration_id"):
        read_pt(tmp_path / "s.pt")


def test_the_command_prints_a_line_a_problem_and_fails(entries, tmp_path, annotations, capsys):
    write_pt(entries[1:], tmp_path / "bad.pt")
    write_zip(entries[1:], tmp_path / "bad.zip", SLS)
    (tmp_path / "bad.txt").touch()
    check_one = ["--annotations", str(annotations), *SIZES]
    for name, expected in (
        ("bad.pt", f"missing: 1 segment ({IDS[0]})\n"),
        ("bad.zip", f"missing: 1 segment ({IDS[0]})\n"),
        ("bad.txt", f"{tmp_path / 'bad.txt'}: unknown kind of file '.txt', expected .pt or .zip\n"),
        ("none.zip", f"{tmp_path / 'none.zip'}: no such file\n"),
    ):
        assert main(["check", str(tmp_path / name), *check_one]) == 1
        assert capsys.readouterr().out == expected
    annotations.write_text("id\n1\n")
    assert main(["check", str(tmp_path / "bad.pt"), *check_one]) == 1
    assert "column narration_id missing" in capsys.readouterr().out
    annotations.write_bytes(b"narration_id\n\xff\n")
    with pytest.raises(EpicError, match="not UTF-8 text"):
        expected_ids(annotations)


def test_the_command_finds_the_csv_of_a_split_as_snakemake_would(
    entries, tmp_path, annotations, capsys
):
    write_zip(entries, tmp_path / "s.zip", SLS)
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "annotations: {val: EPIC_100_validation.csv, test: null}\n"
        f"classes: {{verbs: {V}, nouns: {M}}}\n"
    )
    where = ["--directory", str(tmp_path), "--configfile", str(mine)]
    assert main(["check", str(tmp_path / "s.zip"), "--split", "val", *where]) == 0
    assert capsys.readouterr().out == ""
    assert main(["check", str(tmp_path / "s.zip"), "--split", "test", *where]) == 1
    assert capsys.readouterr().out.startswith("the config has no `annotations: test:`; name")
    # Without an overlay the config that ships is taken, whose paths are below the directory.
    (tmp_path / "annotations").mkdir()
    shutil.copy(annotations, tmp_path / "annotations")
    check_one = ["check", str(tmp_path / "s.zip"), "--split", "val", *where[:2]]
    assert main([*check_one, *SIZES]) == 0
    assert main(check_one) == 1 and "expected [97]" in capsys.readouterr().out
    mine.write_text("annotations: [")
    assert main([*check_one, *where[2:]]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{mine}: not a readable config (while parsing")


def test_hints_are_printed_but_do_not_fail(tmp_path, annotations, capsys):
    verb, noun = scores()
    write_pt(build(IDS, verb, torch.zeros_like(noun)), tmp_path / "s.pt")
    assert main(["check", str(tmp_path / "s.pt"), "--annotations", str(annotations), *SIZES]) == 0
    assert capsys.readouterr().out.startswith("hint: noun_output has several classes tied")


def test_the_command_runs_as_a_module(entries, tmp_path, annotations):
    write_zip(entries, tmp_path / "s.zip", SLS)
    arguments = ["check", tmp_path / "s.zip", "--annotations", annotations]
    command = [sys.executable, "-m", "epic100.submission", *arguments]
    run = subprocess.run([*command, *SIZES], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, ""), run.stderr
    size = (tmp_path / "s.zip").stat().st_size / 2**20
    assert run.stderr == f"{tmp_path / 's.zip'}: ok ({size:.1f} MiB)\n"
    run = subprocess.run(command, capture_output=True, text=True)  # 97 verbs, 300 nouns
    assert run.returncode == 1
    assert run.stdout.splitlines()[0].startswith("verb_output has shape [5], expected [97]")


def test_pickles_are_checked_when_allowed(entries, tmp_path, annotations, capsys):
    verb, noun = (x.numpy() for x in scores())
    columns = {"verb_output": verb, "noun_output": noun.astype(np.float64), "narration_id": IDS}
    (tmp_path / "s.pkl").write_bytes(pickle.dumps(columns))
    arguments = ["check", str(tmp_path / "s.pkl"), "--annotations", str(annotations), *SIZES]
    assert main([*arguments, "--allow-pickle"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("noun_output is float64, expected float32 in 20 segments")
    assert out.count("\n") == 1
