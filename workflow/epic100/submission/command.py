"""`epic100 submission check FILE --split val`, and `epic100 score FILE` without a run."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping

from epic100.base.errors import EpicError
from epic100.scoring.metrics import TASKS, group_accuracies, percent
from epic100.settings import Classes, layered_settings
from epic100.submission.check import HINT, MOST, check, prior_problems
from epic100.submission.files import expected_ids, read_submission
from epic100.submission.score import OWN, asked, read_hits


def run(options: argparse.Namespace) -> int:
    """Print a line for each problem; return 1 if there is one that is more than a hint, else 0."""
    try:
        lines = _problems(options)
    except EpicError as error:
        lines = str(error).splitlines()
    print(*lines, sep="\n", end="\n" if lines else "")
    count = sum(not line.startswith(HINT) for line in lines)
    verdict = f"{count} problem{'s' * (count != 1)}" if count else "ok"
    size = f" ({options.file.stat().st_size / 2**20:.1f} MiB)" if options.file.is_file() else ""
    print(f"{options.file}: {verdict}{size}", file=sys.stderr)
    return 1 if count else 0


def score(options: argparse.Namespace) -> int:
    """Print the figures; return 0."""
    truth, reading = asked(options)
    hits = read_hits(options.file, truth, **reading)
    figures = group_accuracies(hits, truth.members)
    if OWN in hits:
        figures[OWN] = percent(hits[OWN])
    if options.json:
        facts = {"file": str(options.file), "segments": len(truth.ids)}
        print(json.dumps(facts | figures, indent=2))
    else:
        print(f"{options.file}: {len(truth.ids)} segments of val, percent")
        print(*_table(figures), sep="\n")
    return 0


def _table(figures: Mapping[str, float | None]) -> Iterator[str]:
    yield f"{'':16}" + "".join(f"{task:>8}" for task in TASKS)
    for group, k in (("overall", 1), ("overall", 5), ("unseen", 1), ("tail", 1)):
        row = [figures[f"{group}_{task}_accuracy_at_{k}"] for task in TASKS]
        yield f"{group:10}top-{k} " + "".join(f"{_cell(figure):>8}" for figure in row)
    if OWN in figures:
        yield f"by the model's own scores of actions, top-1: {_cell(figures[OWN])}"


def _cell(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.2f}"


def _problems(options: argparse.Namespace) -> list[str]:
    """List problems of the file, and how many segments have no prediction of their own."""
    entries = read_submission(options.file)
    expected = _wanted(options)
    # The reasons come from the run in --directory, and are known only for a named split.
    dropped = options.directory / "results/clean/dropped.tsv"
    most = MOST if options.allow_prior is None else options.allow_prior
    prior = prior_problems(entries, dropped, options.split or "", most)
    lines = [*check(entries, *expected), *prior]
    return sorted(lines, key=lambda line: line.startswith(HINT))


def _wanted(options: argparse.Namespace) -> tuple[list[str], int, int]:
    """Return the expected ids, the number of verbs and the number of nouns."""
    csv, classes = options.annotations, Classes()
    if options.split:
        config = layered_settings(options.configfile, options.directory)
        csv, classes = getattr(config.annotations, options.split), config.classes
        if csv is None:
            raise EpicError(
                f"the config has no `annotations: {options.split}:`; name the CSV there"
            )
        csv = options.directory / csv
    sizes = (options.num_verbs or classes.verbs, options.num_nouns or classes.nouns)
    return expected_ids(csv), *sizes
