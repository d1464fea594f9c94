"""One browser for all tests of the page, and the pages of one run and of two."""

import pytest

from support.browser import opened
from support.small_browse import make_browse


@pytest.fixture(scope="session")
def one_run(tmp_path_factory, short_video):
    """The page of one run."""
    return make_browse(tmp_path_factory.mktemp("one"), short_video)


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory, short_video):
    """The page that compares two runs."""
    return make_browse(tmp_path_factory.mktemp("two"), short_video, two=True)


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A browser with an empty page."""
    with opened("about:blank", tmp_path_factory.mktemp("browser")) as page:
        yield page
