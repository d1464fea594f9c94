import pytest
from mmengine.config import Config

from epic100.base.errors import EpicError
from epic100.model.config_text import parse_config
from support.small_runs import built


def test_the_text_of_a_config_reads_as_its_file_does(lab):
    complete = built(lab, config="config/x3d_s_epic_rgb_segments.py")
    complete.extra = dict(path={"a-b": (1, -2.5)}, none=None, more=[dict(x=True), ()])
    parsed = parse_config(complete.pretty_text, "model.pth", "train again")
    assert parsed.to_dict() == Config(complete.to_dict()).to_dict()


@pytest.mark.parametrize("text", [
    "import os\nmodel = 1",
    "model = open('/etc/passwd').read()",
    "model = dict(type=__import__('os').getcwd())",
    "model = dict(**[1])",
    "x = 1\nmodel = x",
    "model = (",
])  # fmt: skip
def test_code_in_it_is_not_run(text):
    with pytest.raises(EpicError, match="m.pth: its config cannot be read without .*; train again"):
        parse_config(text, "m.pth", "train again")
