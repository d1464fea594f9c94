"""Two jobs for the same files: rounds of the ways in which that came about, and what was harmed.

    python benchmarks/two_writers.py [--rounds 20] [--seed 0] [--jobs scan train]

In a round, each way is played once, with a job that changes from round to round. A line tells of
each file that differs from that of one job alone. The last line is a JSON object.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.lab import make_lab  # noqa: E402
from support.two_writers import JOBS, WAYS, Stage  # noqa: E402


def main() -> None:
    """Play the rounds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    chosen = parser.parse_args()
    random, played = Random(chosen.seed), 0
    harmed: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        stage = Stage(make_lab(Path(name, "lab")), Path(name))
        for number in range(chosen.rounds):
            for place, way in enumerate(WAYS):
                job = chosen.jobs[(number + place) % len(chosen.jobs)]
                found = stage.play(way, job, random)
                print(*found, sep="\n", end="\n" * bool(found), flush=True)
                harmed += found
                played += 1
            print(f"round {number + 1}: {len(harmed)} files harmed", file=sys.stderr, flush=True)
    print(json.dumps({"rounds": chosen.rounds, "played": played, "harmed": len(harmed)}))


if __name__ == "__main__":
    main()
