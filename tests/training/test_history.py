import pandas as pd
import pytest

from epic100.training.history import COLUMNS
from support.small_runs import copy_results, run, work_dir


def test_each_epoch_is_a_row_and_figures_stand_where_it_was_validated(lab, tmp_path):
    results = copy_results(lab, tmp_path)
    logged = {"default_hooks.logger.interval": 1, "log_processor.window_size": 4}
    run(lab, results, logged, epochs=3, validate={"every": 2})
    text = (results / "training.tsv").read_text()
    assert text == (work_dir(results) / "training.tsv").read_text()
    contract = (
        "epoch iter lr loss verb_top1 verb_top5 noun_top1 noun_top5 action_top1 action_top5 "
        "samples_per_s data_share seconds"
    )
    assert text.splitlines()[0] == contract.replace(" ", "\t") == "\t".join(COLUMNS)
    rows = pd.read_csv(results / "training.tsv", sep="\t")
    assert rows["epoch"].tolist() == [1, 2, 3] and rows["iter"].tolist() == [4, 8, 12]
    # Warm-up to the rate of two segments a step, then cosine.
    assert rows["lr"].iloc[0] == pytest.approx(0.003 * 2 / 8)
    assert rows["lr"].iloc[0] > rows["lr"].iloc[2]
    for column in COLUMNS[4:10]:
        assert rows[column].notna().tolist() == [False, True, True]
        assert rows[column].dropna().between(0, 100).all()
    assert (rows["samples_per_s"] * rows["seconds"]).round(3).tolist() == [8, 8, 8]
    assert rows["data_share"].between(0, 1).all()
    assert list(work_dir(results).glob("*/vis_data/events.out.tfevents.*"))
    (log,) = work_dir(results).glob("*/vis_data/scalars.json")
    lines = pd.read_json(log, lines=True)
    means = lines[lines["step"].isin([4, 8, 12]) & lines["loss"].notna()]["loss"]
    assert rows["loss"].tolist() == pytest.approx(means.tolist(), abs=1e-4)
