"""A finished model is taken from its work directory when its settings come back."""

import pytest

from support.small_runs import copy_results, run, same, work_dir

pytestmark = pytest.mark.slow


def test_the_model_of_settings_that_come_back_is_taken_and_nothing_is_trained(
    lab, tmp_path, caplog
):
    results = copy_results(lab, tmp_path, segments=4)
    first = run(lab, results, epochs=1)
    folder = work_dir(results)
    outputs = [results / "model.pth", results / "training.tsv"]
    made = [path.read_bytes() for path in outputs]
    logs = sorted(folder.rglob("*.log"))
    for path in outputs:  # Snakemake removes outputs; a user may also write over them
        path.write_bytes(b"of other settings")
    caplog.clear()
    assert same(run(lab, results, epochs=1, workers=0), first)
    assert [path.read_bytes() for path in outputs] == made
    assert f"{folder} has the finished model of these settings and lists: taken" in caplog.text
    assert sorted(folder.rglob("*.log")) == logs

    kept = folder / "model.pth"
    kept.write_bytes(kept.read_bytes()[:-100])
    assert same(run(lab, results, epochs=1), first)  # from the last checkpoint
    assert (folder / "model.broken").is_file()
    assert kept.read_bytes() == outputs[0].read_bytes()
