"""Every reader of tensor files uses the one that looks at checksums and runs nothing."""

import io
import os
import pickle
from functools import partial
from pathlib import Path

import pytest
import torch

from epic100.base.errors import EpicError
from epic100.migrate import checkpoint
from epic100.model.model_file import load_model
from epic100.scoring.predictions import read_predictions
from epic100.submission.files import read_pt
from epic100.training.checkpoints import read_checkpoint
from epic100.training.weights import read_weights

READERS = {
    "model": load_model,
    "predictions": partial(read_predictions, split="val"),
    "submission": read_pt,
    "checkpoint": read_checkpoint,
    "a lab's checkpoint": checkpoint.read_checkpoint,
    "start weights": read_weights,
}


class Trap:
    """Makes a folder when it is loaded as pickles are."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)


def saved(content, **how) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


VALUES = torch.arange(500.0)
WHOLE = saved({"state_dict": {"a": VALUES}})
AT = WHOLE.index(VALUES.numpy().tobytes()) + 801
CODE = "holds posix.mkdir besides tensors"
FILES = {
    "nothing": (b"", "EOFError"),
    "text": (b"a model of mine\n", r"\w+Error"),
    "half": (WHOLE[: len(WHOLE) // 2], "cut short, its end is missing"),
    "all but a byte": (WHOLE[:-1], "cut short, its end is missing"),
    "another bit": (WHOLE[:AT] + bytes([WHOLE[AT] ^ 4]) + WHOLE[AT + 1 :], "the checksum of "),
    "another zip": (b"PK\3\4" + bytes(30) + b"PK\5\6" + bytes(18), "a zip, but not one of torch"),
    "code": (saved({"state_dict": Trap()}), CODE),
    "code in the old form": (
        saved(Trap(), _use_new_zipfile_serialization=False),
        CODE,
    ),
    "a bare pickle of code": (pickle.dumps(Trap(), protocol=2), CODE),
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_whole_file_or_holds_code_is_one_error_with_the_reason(
    tmp_path, monkeypatch, reader, file
):
    content, reason = FILES[file]
    monkeypatch.chdir(tmp_path)
    Path("a.pth").write_bytes(content)
    with pytest.raises(EpicError, match=rf"^a\.pth: not .*\({reason}") as caught:
        READERS[reader]("a.pth")
    assert "\n" not in str(caught.value) and os.listdir() == ["a.pth"]
