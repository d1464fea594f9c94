"""The meaning of Slurm's answers about a job: the table of docs/vsc.md, and answers without one."""

import re

import pytest

from epic100.slurm.answers import MEANING_OF_STATE, POLLS, Asker, Meaning
from support.checkout import ROOT
from support.slurm_calls import put_before

AWAY = "away"


@pytest.fixture
def asker(tmp_path, monkeypatch):
    """A function that makes an `Asker` whose sacct and squeue print these texts, or fail if AWAY.

    Its parameter `say` gets the warnings for the user.
    """

    def make(sacct="", squeue="", say=print):
        for program, text in (("sacct", sacct), ("squeue", squeue)):
            answer = tmp_path / f"{program}.txt"
            # Slurm of some sites answers in Latin-1.
            answer.write_bytes(text.encode("latin-1"))
            script = "echo away >&2; exit 1" if text == AWAY else f"cat {answer}"
            monkeypatch.setenv("PATH", put_before(program, script, tmp_path / "bin")["PATH"])
        return Asker({"names": ["a"], "clusters": []}, say)

    return make


def test_the_page_has_every_state_with_its_meaning():
    # A row of the table begins as "| `PENDING`, `REQUEUED` | pending |".
    rows = re.findall(r"(?m)^\| `([A-Z_`, ]+)` \| (\w+) \|", (ROOT / "docs/vsc.md").read_text())
    page = {state: word for states, word in rows for state in re.findall(r"\w+", states)}
    assert page == {state: meaning.value for state, meaning in MEANING_OF_STATE.items()}


@pytest.mark.parametrize(
    "sacct, squeue, meaning",
    [
        pytest.param("7|RUNNING\n", AWAY, Meaning.RUNNING, id="sacct alone"),
        pytest.param("7|CANCELLED by 1000\n", AWAY, Meaning.ENDED, id="state of several words"),
        pytest.param("", "7\x1fPENDING\x1f\n", Meaning.PENDING, id="not in sacct yet"),
        pytest.param(AWAY, "7\x1fCOMPLETED\x1f\n", Meaning.ENDED, id="squeue alone"),
        pytest.param(AWAY, AWAY, Meaning.SUBMITTED, id="both away"),
        pytest.param("", "", Meaning.SUBMITTED, id="in neither"),
        # A blank state once ended a run with IndexError.
        pytest.param("7|\n", AWAY, Meaning.SUBMITTED, id="blank state"),
        pytest.param(
            "\n7\n7|\n|RUNNING\nseven|RUNNING\nJobID|State\n",
            AWAY,
            Meaning.SUBMITTED,
            id="lines that are no rows",
        ),
        pytest.param("7|K\xfcche und mehr\n", AWAY, Meaning.RUNNING, id="unknown state"),
        pytest.param("7|RUNNING+\n", AWAY, Meaning.RUNNING, id="state that was cut"),
        pytest.param("7|RUNNING|a column more\n", AWAY, Meaning.RUNNING, id="one column more"),
        pytest.param("7.batch|FAILED\n7|RUNNING\n", AWAY, Meaning.RUNNING, id="step of the job"),
    ],
)
def test_any_answer_has_a_meaning(asker, sacct, squeue, meaning):
    states = asker(sacct, squeue).states(["7"])
    assert states["7"][0] == meaning


def test_a_job_is_unknown_after_three_answers_of_squeue_without_it(asker):
    asking = asker(sacct="8|RUNNING\n", squeue="")
    meanings = [asking.states(["7", "8"])["7"][0] for _ in range(4)]
    # The fourth question shows that the job stays unknown.
    assert POLLS == 3
    assert meanings == [Meaning.SUBMITTED, Meaning.SUBMITTED, Meaning.UNKNOWN, Meaning.UNKNOWN]


def test_a_job_stays_submitted_while_neither_command_answers(asker):
    messages = []
    asking = asker(sacct=AWAY, squeue=AWAY, say=messages.append)
    # A squeue that answers would make the job unknown after POLLS answers.
    for _ in range(POLLS + 2):
        assert asking.states(["7"])["7"][0] == Meaning.SUBMITTED
    assert "sacct does not tell (away), nor does squeue tell (away)" in messages[0]
