"""`python -m epic100.compare A B`: whether one model is better than another, and how sure that is.

A and B are predictions of val or submissions of val (.pt or .zip), from any run.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from epic100.base.config import layered_config
from epic100.base.errors import EpicError
from epic100.compare.bootstrap import RESAMPLES, Difference, difference
from epic100.compare.scores import read_scores
from epic100.scoring.metrics import TASKS, group_members, official_hits
from epic100.segments.official_lists import LISTS, find_lists, read_list
from epic100.segments.segment_list import read_segments


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table.

    Args:
        arguments: The command line; None means `sys.argv`.

    Returns:
        The exit code: 1, after one line on stderr, if an input is wrong, else 0.
    """
    parser = argparse.ArgumentParser(prog="python -m epic100.compare", description=__doc__)
    fill_parser(parser)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except EpicError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def fill_parser(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, and the default `run`: the function to call."""
    parser.add_argument("first", type=Path, metavar="A", help="predictions or submission of val")
    parser.add_argument("second", type=Path, metavar="B", help="the one that is held against it")
    parser.add_argument(
        "--segments", type=Path, metavar="TXT",
        help="the truth; default: results/segments/val.txt of --directory",
    )  # fmt: skip
    parser.add_argument(
        "--configfile", type=Path, nargs="+", default=[],
        help="over config/config.yaml, as given to snakemake",
    )  # fmt: skip
    parser.add_argument("--directory", type=Path, default=Path(), help="as given to snakemake")
    parser.add_argument("--seed", type=int, default=0, help="of the resampling (default: 0)")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    config = layered_config(options.configfile, options.directory)
    path = options.segments or options.directory / "results/segments/val.txt"
    segments = read_segments(path)
    if not len(segments):
        raise EpicError(f"{path}: no segment in it; expected those of split val")
    ids = segments["narration_id"].tolist()
    truth = verb, noun = segments["verb"].to_numpy(), segments["noun"].to_numpy()
    first, second = (
        official_hits(*read_scores(file, ids, config["export"], config["classes"]), *truth)
        for file in (options.first, options.second)
    )

    participants = [Path(name).parent.name for name in segments["path"]]
    names, videos = np.unique(segments["path"].to_numpy(dtype=str), return_inverse=True)
    members = group_members(verb, noun, participants, **_lists(config, options.directory))
    print(f"A: {options.first}\nB: {options.second}")
    print(
        f"{len(ids)} segments of {len(names)} videos. Top-1 in percent, B - A in percentage points,"
        f"\n95 % intervals of a paired bootstrap with {RESAMPLES} resamples."
    )
    for line in _table(first, second, members, videos, options.seed):
        print(line)
    return 0


def _lists(config: dict[str, Any], directory: Path) -> dict[str, list[Any]]:
    """Read the official lists for the unseen and tail figures. A missing list is empty."""
    named = {key: path and str(directory / path) for key, path in config["evaluate"].items()}
    found = find_lists(directory / config["annotations"]["val"], named)
    return {key: read_list(found[key], key) if key in found else [] for key in LISTS}


def _table(
    first: dict[str, np.ndarray],
    second: dict[str, np.ndarray],
    members: dict[str, dict[str, np.ndarray]],
    videos: np.ndarray,
    seed: int,
) -> Iterator[str]:
    columns = f"{'segments':>8}{'A':>8}{'B':>8}{'B - A':>8}"
    yield f"{'':16}{columns}   {'over segments':<18}over videos"
    for group, of_task in members.items():
        for task in TASKS:
            key = f"{task}_at_1"
            found = difference(first[key], second[key], of_task[task], videos, seed)
            yield f"{group:<8}{task:<8}{_cells(found)}"


def _cells(found: Difference | None) -> str:
    if found is None:
        return f"{0:>8}{'-':>8}{'-':>8}{'-':>8}   {'-':<18}-"
    spans = [f"{low:+.2f} to {high:+.2f}" for low, high in (found.over_segments, found.over_videos)]
    return (
        f"{found.segments:>8}{found.first:>8.2f}{found.second:>8.2f}{found.points:>+8.2f}"
        f"   {spans[0]:<18}{spans[1]}"
    )


if __name__ == "__main__":
    sys.exit(main())
