"""What Slurm's answers about a job mean: the table of docs/vsc.md, and answers that are none."""

import re

import pytest

from epic100.slurm.answers import MEANING_OF_STATE, POLLS, Asker, Meaning
from support.checkout import ROOT
from support.slurm_calls import put_before

TABLE = re.findall(r"(?m)^\| `([A-Z_`, ]+)` \| (\w+) \|", (ROOT / "docs/vsc.md").read_text())


@pytest.fixture
def asker(tmp_path, monkeypatch):
    """A function that makes an asker whose sacct and squeue print these texts, or fail."""
    said = []

    def make(sacct="", squeue=""):
        for name, text in (("sacct", sacct), ("squeue", squeue)):
            (tmp_path / f"{name}.txt").write_bytes(text.encode("latin-1"))
            script = f"cat {tmp_path}/{name}.txt" if text != "away" else "echo away >&2; exit 1"
            monkeypatch.setenv("PATH", put_before(name, script, tmp_path / "bin")["PATH"])
        asker = Asker({"names": ["a"], "clusters": []}, said.append)
        asker.said = said
        return asker

    return make


def test_the_page_has_every_state_with_its_meaning():
    page = {state: word for states, word in TABLE for state in re.findall(r"\w+", states)}
    assert page == {state: meaning.value for state, meaning in MEANING_OF_STATE.items()}


@pytest.mark.parametrize(
    "sacct, squeue, meaning",
    [
        ("7|RUNNING\n", "away", Meaning.RUNNING),
        ("7|CANCELLED by 1000\n", "away", Meaning.ENDED),
        ("", "7\x1fPENDING\x1f\n", Meaning.PENDING),
        ("away", "7\x1fCOMPLETED\x1f\n", Meaning.ENDED),
        ("away", "away", Meaning.SUBMITTED),
        ("", "", Meaning.SUBMITTED),
        # A blank state once ended a run with IndexError.
        ("7|\n", "away", Meaning.SUBMITTED),
        ("\n7\n7|\n|RUNNING\nseven|RUNNING\nJobID|State\n", "away", Meaning.SUBMITTED),
        ("7|K\xfcche und mehr\n", "away", Meaning.RUNNING),
        ("7|RUNNING+\n", "away", Meaning.RUNNING),
        ("7|RUNNING|a column more\n", "away", Meaning.RUNNING),
        ("7.batch|FAILED\n7|RUNNING\n", "away", Meaning.RUNNING),
    ],
)
def test_any_answer_has_a_meaning_and_none_raises(asker, sacct, squeue, meaning):
    assert asker(sacct, squeue).states(["7"])["7"][0] == meaning


def test_a_job_that_sacct_answers_without_is_asked_of_squeue_and_at_last_judged_by_its_files(asker):
    asker = asker(sacct="8|RUNNING\n", squeue="")
    meanings = [asker.states(["7", "8"])["7"][0] for _ in range(POLLS + 1)]
    assert meanings == [Meaning.SUBMITTED] * (POLLS - 1) + [Meaning.UNKNOWN] * 2


def test_while_squeue_is_away_no_job_is_judged(asker):
    asker = asker(sacct="away", squeue="away")
    for _ in range(POLLS + 2):
        assert asker.states(["7"])["7"][0] == Meaning.SUBMITTED
    assert any("sacct does not tell (away), nor does squeue tell (away)" in s for s in asker.said)
