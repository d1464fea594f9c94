"""`epic100 submission check FILE --split val`: what is wrong with a submission."""

import argparse
import sys

from epic100.base.errors import EpicError
from epic100.settings import Classes, layered_settings
from epic100.submission.check import HINT, MOST, check, prior_problems
from epic100.submission.files import (
    existing_file,
    expected_ids,
    read_pickle,
    read_pt,
    read_zip,
)


def run(options: argparse.Namespace) -> int:
    """Print a line for each problem; return 1 if there is one that is more than a hint, else 0."""
    try:
        lines = _check_file(options)
    except EpicError as error:
        lines = str(error).splitlines()
    print(*lines, sep="\n", end="\n" if lines else "")
    count = sum(not line.startswith(HINT) for line in lines)
    verdict = f"{count} problem{'s' * (count != 1)}" if count else "ok"
    size = f" ({options.file.stat().st_size / 2**20:.1f} MiB)" if options.file.is_file() else ""
    print(f"{options.file}: {verdict}{size}", file=sys.stderr)
    return 1 if count else 0


def _check_file(options: argparse.Namespace) -> list[str]:
    path, suffix = existing_file(options.file), options.file.suffix.lower()
    wanted = _wanted(options)
    if suffix == ".zip":
        entries, problems = read_zip(path, *wanted[1:])
        return [*problems, *_problems(entries, options, wanted)]
    if suffix == ".pkl" and not options.allow_pickle:
        raise EpicError(
            f"{path}: loading a .pkl runs its code; with --allow-pickle if you trust it"
        )
    if suffix not in (".pt", ".pkl"):
        raise EpicError(f"{path}: unknown kind of file {suffix!r}, expected .pt or .zip")
    entries = read_pickle(path) if options.allow_pickle else read_pt(path)
    return _problems(entries, options, wanted)


def _problems(
    entries: list[dict], options: argparse.Namespace, wanted: tuple[list[str], int, int]
) -> list[str]:
    """List problems of the scores, and how many segments have no prediction of their own."""
    # The reasons come from the run in --directory, and are known only for a named split.
    dropped = options.directory / "results/clean/dropped.tsv"
    most = MOST if options.allow_prior is None else options.allow_prior
    prior = prior_problems(entries, dropped, options.split or "", most)
    lines = [*check(entries, *wanted), *prior]
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
