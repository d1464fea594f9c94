import pytest

from support.checkout import python


@pytest.mark.slow
def test_importing_epic100_mmaction_gives_no_warning():
    """That it registers what configs name is tested by MMAction2's own tool in
    training/test_run.py."""
    assert not python("-W", "error::UserWarning", "-c", "import epic100.mmaction").stderr
