"""What tests of the scan share."""

import pytest

from epic100.scan import participant
from epic100.video.fork_server import ForkServers
from support.decoder_stand_in import House


@pytest.fixture(scope="module", autouse=True)
def servers():
    """Servers of decoders stay from scan to scan: to start one takes longer than a short video."""
    kept: dict[tuple, list] = {}

    class Kept(ForkServers):
        def __init__(self, command, seconds):
            super().__init__(command, seconds)
            self._idle = kept.setdefault(tuple(command), [])

        def __exit__(self, *_):
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(participant, "ForkServers", Kept)
        yield
    for fork in sum(kept.values(), []):
        fork.close()


@pytest.fixture
def house(tmp_path, short_video):
    """Makes a participant of so many sound videos."""
    return lambda count, video=short_video: House(tmp_path, video, count)
