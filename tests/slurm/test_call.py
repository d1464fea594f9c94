"""Snakemake's options, found while a Snakefile is read."""

from argparse import Namespace

from epic100.slurm.call import only_looks, options


def args_to_api(args, parser=None):  # as Snakemake's own function is named
    return options()


def test_snakemakes_options_are_found_whatever_the_program_around_it_was_given():
    assert not vars(options())
    given = Namespace(dryrun=False, unlock=True, executor="slurm")
    assert args_to_api(given) is given
    assert only_looks(given) and not only_looks(Namespace(dryrun=False, unlock=False))
