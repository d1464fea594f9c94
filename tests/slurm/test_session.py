"""What is looked at before the first submission, and what is taken away after the last."""

import shutil
import stat

import pytest

from epic100.base.errors import EpicError
from epic100.slurm import session
from epic100.slurm.record import read_run
from epic100.slurm.session import BIN, Session, only_looks, options


def test_a_wrapper_without_its_run_bit_is_reported_before_any_submission(tmp_path, monkeypatch):
    copy = tmp_path / "bin"
    shutil.copytree(BIN, copy)
    (copy / "sbatch").chmod(stat.S_IRUSR | stat.S_IWUSR)
    monkeypatch.setattr(session, "BIN", copy)
    with pytest.raises(EpicError, match="bin/sbatch has no run bit: chmod"):
        Session(tmp_path, print).begin(["wice"])
    assert read_run(tmp_path) is None


def test_every_wrapper_that_ships_can_be_run():
    wrappers = list(BIN.iterdir())
    assert {path.name for path in wrappers} == {"sacct", "sacctmgr", "sbatch", "sshare"}
    assert all(path.stat().st_mode & stat.S_IXUSR for path in wrappers)


def args_to_api(args, parser=None):  # as Snakemake's own function is named
    return options()


def test_snakemakes_options_are_found_whatever_the_program_around_it_was_given():
    from argparse import Namespace

    assert not vars(options())
    given = Namespace(dryrun=False, unlock=True, executor="slurm")
    assert args_to_api(given) is given
    assert only_looks(given) and not only_looks(Namespace(dryrun=False, unlock=False))
