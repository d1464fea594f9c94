"""The causes of failures: the table of docs/vsc.md, and messages that sbatch has printed."""

import re
import threading
from collections import Counter
from itertools import product
from types import SimpleNamespace

import pytest

from epic100.slurm.executor import Executor
from epic100.slurm.failures import OF_MACHINES, Fault, fault_of_end, fault_of_request
from support.checkout import ROOT

FAILED = "sbatch: error: Batch job submission failed:"
# After each of these messages, a later call of sbatch succeeded; each once ended a run.
PASSING = (
    f"{FAILED} Transport endpoint is not connected",
    f"{FAILED} Unexpected message received",
    f"{FAILED} Slurm backup controller in standby mode",
    f"{FAILED} Slurm controller paging the job",
    f"{FAILED} I/O error writing script/environment to file",
    f"{FAILED} Requested operation is presently disabled",
    f"{FAILED} Insufficient resources to process",
    f"{FAILED} Header lengths are longer than data received",
    f"{FAILED} Invalid job credential",
    f"{FAILED} Unspecified error",
    f"{FAILED} Job/step already completing or completed",
    f"{FAILED} No error",
    "sbatch: fatal: Could not establish a configuration source",
    "sbatch: error: slurm_receive_msg: Zero Bytes were transmitted or received",
    f"sbatch: error: AssocMaxSubmitJobLimit\n{FAILED} Job "
    "violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
    f"sbatch: error: AssocGrpSubmitJobsLimit\n{FAILED} Job violates accounting/QOS policy",
    "sbatch: no answer in 120 s",
    "sbatch: Fehler: Netzwerk ist nicht erreichbar",
    "",
)
# Slurm never grants a request after one of these messages.
FINAL = (
    f"{FAILED} Invalid account or account/partition combination specified",
    f"{FAILED} Invalid qos specification",
    f"{FAILED} Invalid feature specification",
    f"{FAILED} Requested node configuration is not available",
    f"{FAILED} Requested time limit is invalid (missing or exceeds some limit)",
    f"{FAILED} Node count specification invalid",
    f"{FAILED} Invalid node name specified",
    f"{FAILED} invalid partition specified: gpu",
    f"{FAILED} Invalid generic resource (gres) specification",
    f"{FAILED} More processors requested than permitted",
)


@pytest.mark.parametrize(
    "message, fault",
    [*product(PASSING, [Fault.LATER]), *product(FINAL, [Fault.NEVER])],
    ids=[message or "empty message" for message in (*PASSING, *FINAL)],
)
def test_a_refused_request_is_sent_again_unless_it_is_never_granted(message, fault):
    assert fault_of_request(message) == fault


@pytest.mark.parametrize(
    "state, reason, fault",
    [
        ("NODE_FAIL", "", Fault.MACHINES),
        ("PREEMPTED", "", Fault.MACHINES),
        ("FAILED", "", Fault.OWN),
        ("TIMEOUT", "", Fault.OWN),
        ("SOMETHING_NEW", "", Fault.OWN),
        ("OUT_OF_MEMORY", "", Fault.MEMORY),
        ("FAILED", "Detected 1 oom_kill event in StepId=7.0", Fault.MEMORY),
        ("FAILED", "Step 7.0 exceeded memory limit (9 > 8), being killed", Fault.MEMORY),
    ],
    ids=[
        "failed node",
        "preempted",
        "failed",
        "timeout",
        "state that is not known here",
        "state of too little memory",
        "killed for memory by the system",
        "killed for memory by Slurm",
    ],
)
def test_the_end_of_a_job_is_its_own_fault_or_lack_of_memory_or_the_machines_fault(
    state, reason, fault
):
    assert fault_of_end(state, reason) == fault


def test_the_page_has_every_fault_and_every_state_of_machines():
    page = (ROOT / "docs/vsc.md").read_text()
    assert [fault.name for fault in Fault if fault.value not in page] == []
    (row,) = [line for line in page.splitlines() if Fault.MACHINES.value in line]
    assert set(re.findall(r"`([A-Z_]+)`", row)) == set(OF_MACHINES)


def test_of_twenty_ends_by_the_machines_fault_one_counts_as_a_try():
    # The real constructor needs a workflow and Slurm; `_count_machine_fault` needs only these three
    # attributes.
    executor = Executor.__new__(Executor)
    executor.stopped = threading.Event()
    executor._machine_faults = Counter()
    executor.workflow = SimpleNamespace(scheduler=SimpleNamespace(_user_kill=False))
    submitted_again = [executor._count_machine_fault(job=7) for _ in range(60)]
    counted = [number for number, again in enumerate(submitted_again, start=1) if not again]
    assert counted == [20, 40, 60]
