"""The layout of the backbone: measured once a run, and kept."""

import pytest
from mmengine.registry import init_default_scope

import epic100.training.registered  # noqa: F401
from epic100.base.errors import EpicError
from epic100.training.config import build_config
from epic100.training.device import Placement
from epic100.training.plan import plan_run
from epic100.training.start_check import check_start, kept_layout
from epic100.training.start_table import layout_rows
from support.small_runs import settings


@pytest.fixture
def planned(lab, tmp_path):
    """A plan as a GPU gets it, but computed on this machine's CPU."""
    init_default_scope("mmaction")
    chosen = settings(workers=0)
    config = build_config(chosen, lab.results, lab.root)
    plan = plan_run(
        config, chosen, Placement("cuda", 1), work_dir=tmp_path / "run", classes=(97, 300)
    )
    assert plan.channels_last is None
    object.__setattr__(plan, "placement", Placement("cpu", 1))
    return plan


def test_the_start_check_takes_the_faster_layout_and_the_run_keeps_it(planned):
    check = check_start(planned)
    faster = min(check.layouts, key=check.layouts.get)
    assert set(check.layouts) == {"channels-last", "plain"}
    assert check.plan.channels_last is (faster == "channels-last")
    kind = check.plan.config.model.type
    assert kind == ("ChannelsLastRecognizer3D" if check.plan.channels_last else "Recognizer3D")
    (row,) = layout_rows(check)
    assert row[0] == "layout" and row[1].startswith(f"{faster}, the faster (channels-last ")
    # Another start of the same run measures nothing, whatever would be faster now.
    kept = planned.config.work_dir + "/layout.txt"
    for name, channels_last in (("plain", False), ("channels-last", True)):
        with open(kept, "w") as file:
            file.write(name + "\n")
        again = check_start(planned)
        assert again.plan.channels_last is channels_last and not again.layouts


def test_a_layout_file_with_something_else_in_it_is_refused(tmp_path):
    assert kept_layout(tmp_path, lambda: "plain") == "plain"
    assert kept_layout(tmp_path, lambda: pytest.fail("measured again")) == "plain"
    (tmp_path / "layout.txt").write_text("rows")
    with pytest.raises(EpicError, match="layout.txt: is 'rows'; expected channels-last or plain"):
        kept_layout(tmp_path, lambda: "plain")
