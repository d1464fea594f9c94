"""`epic100 submission check FILE --split val`."""

import argparse
import sys

from epic100.base.errors import EpicError
from epic100.scoring.submission_check import HINT, MAX_PRIOR_SHARE, check, prior_problems
from epic100.scoring.submission_file import expected_ids, read_submission
from epic100.settings.config import layered_settings
from epic100.settings.data import Classes


def run(options: argparse.Namespace) -> int:
    """Check a submission and print a line for each problem.

    Returns:
        The exit status: 1 if there is a problem that is more than a hint, else 0.
    """
    try:
        lines = _problems(options)
    except EpicError as error:
        lines = str(error).splitlines()
    print(*lines, sep="\n", end="\n" if lines else "")
    count = sum(not line.startswith(HINT) for line in lines)
    verdict = f"{count} {'problem' if count == 1 else 'problems'}" if count else "ok"
    size = f" ({options.file.stat().st_size / 2**20:.1f} MiB)" if options.file.is_file() else ""
    print(f"{options.file}: {verdict}{size}", file=sys.stderr)
    return 1 if count else 0


def _problems(options: argparse.Namespace) -> list[str]:
    """List the problems of a submission, then the hints.

    A line counts the segments that have the training prior in place of a prediction.
    """
    entries = read_submission(options.file)
    ids, num_verbs, num_nouns = _expected(options)
    # The reasons come from the run in --directory, and are known only for a named split.
    dropped = options.directory / "results/clean/dropped.tsv"
    max_share = MAX_PRIOR_SHARE if options.allow_prior is None else options.allow_prior
    lines = check(entries, ids, num_verbs, num_nouns)
    lines += prior_problems(entries, dropped, options.split or "", max_share)
    # False comes before True, so the hints, which are no problems, are last.
    return sorted(lines, key=lambda line: line.startswith(HINT))


def _expected(options: argparse.Namespace) -> tuple[list[str], int, int]:
    """Return the narration ids and the numbers of verbs and nouns of a complete submission.

    With --split, the config names the CSV and the numbers; --num-verbs and --num-nouns win.
    """
    annotations_csv = options.annotations
    classes = Classes()
    if options.split:
        config = layered_settings(options.configfile, options.directory)
        classes = config.classes
        annotations_csv = getattr(config.annotations, options.split)
        if annotations_csv is None:
            raise EpicError(
                f"the config has no `annotations: {options.split}:`; name the CSV there"
            )
        annotations_csv = options.directory / annotations_csv
    # The options win over the numbers of the config.
    num_verbs = options.num_verbs or classes.verbs
    return expected_ids(annotations_csv), num_verbs, options.num_nouns or classes.nouns
