from types import SimpleNamespace

import pytest

from epic100.base.log import rule_log
from support.small_runs import LOGGED, WHOLE, copy_results, run


@pytest.fixture(scope="session")
def straight(lab, once):
    """Train with the settings `WHOLE`, three epochs of three batches, which nothing cuts short.

    Tests only read what it has: the folder `results`, the `weights` of the model, and what MMEngine
    and the workflow have `said` in the log of the rule.
    """

    def train_straight(folder):
        results = copy_results(lab, folder, segments=6)
        with rule_log(results / "said.txt"):
            weights = run(lab, results, LOGGED, **WHOLE)
        said = (results / "said.txt").read_text()
        return SimpleNamespace(results=results, weights=weights, said=said)

    return once("straight", train_straight)
