from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from epic100.base.log import rule_log
from support.small_runs import LOGGED, WHOLE, copy_results, run


@dataclass(frozen=True)
class Straight:
    """A training that nothing cut short; tests only read its results.

    Attributes:
        results: The folder of its results.
        weights: The weights of its model.
        said: What MMEngine and the workflow wrote into the log of the rule.
    """

    results: Path
    weights: dict[str, torch.Tensor]
    said: str


@pytest.fixture(scope="session")
def straight(lab, once) -> Straight:
    """Train with the settings `WHOLE`, three epochs of three batches."""

    def train_straight(folder):
        results = copy_results(lab, folder, segments=6)
        with rule_log(results / "said.txt"):
            weights = run(lab, results, LOGGED, **WHOLE)
        return Straight(results, weights, (results / "said.txt").read_text())

    return once("straight", train_straight)
