"""Features by the rules, on the demo."""

from epic100.features.file import read_features
from epic100.features.table import read_feature_table
from support.checkout import run_snakemake


def test_the_rules_make_a_participants_features_and_one_videos(demo):
    calls = ("results/features/P06.tsv", "results/features/P06_101.npz")
    for target in calls:
        done = run_snakemake(target, "--directory", str(demo), "--configfile", "config/demo.yaml")
        assert done.returncode == 0, done.stderr[-4000:]
    (row,) = read_feature_table(demo / calls[0])
    features = read_features(demo / calls[1])
    assert features.feats.shape == (row.steps, row.channels) and row.channels == 432
    assert row.valid == row.steps == 70  # of half a second
