"""What tests of the scan share."""

import pytest

from support.decoder_stand_in import House


@pytest.fixture
def house(tmp_path, short_video):
    """Makes a participant of so many sound videos."""
    return lambda count, video=short_video: House(tmp_path, video, count)
