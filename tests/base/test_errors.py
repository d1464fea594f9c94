import pickle

import pytest
from torch.utils.data import DataLoader, Dataset

from epic100.base.atomic import DiskFullError
from epic100.base.errors import EpicError
from epic100.base.torch_file import BrokenFile
from epic100.video.reader import FrameError

pytestmark = pytest.mark.slow

KINDS = (EpicError, BrokenFile, DiskFullError, FrameError)
MESSAGE = "P01/P01_01.MP4: frame 7: ValueError: bad; epic100 EpicError: do this"


class Failing(Dataset):
    def __init__(self, kind, message):
        self.kind, self.message = kind, message

    def __len__(self):
        return 1

    def __getitem__(self, place):
        try:
            raise EpicError("what came before")
        except EpicError as error:
            raise self.kind(self.message) from error


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("message", [MESSAGE, "two\nlines"])
def test_an_error_keeps_class_and_message_out_of_a_loader_s_worker_and_a_pickle(kind, message):
    with pytest.raises(EpicError) as caught:
        list(DataLoader(Failing(kind, message), num_workers=1))
    for error in (caught.value, pickle.loads(pickle.dumps(kind(message)))):
        assert type(error) is kind and str(error) == message
