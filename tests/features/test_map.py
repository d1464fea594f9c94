"""The map of segments: principal components, neighbours, what it takes of a film's features."""

import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.features.map import segment_map
from epic100.features.participant import FeatureRow, Features, write_feature_table, write_features


def write(folder, video, feats, valid=None, encoder="a:B"):
    """Features of a video, a row a second."""
    count = len(feats)
    write_features(
        Features(np.float32(feats), np.array(valid or [True] * count), np.arange(count) + 0.5,
                 np.arange(count) * 60 + 30, np.stack([np.arange(count) * 60] * 2, 1), 60.0,
                 float(count), {"encoder": encoder, "model": "", "load_from": "", "stride": 1.0,
                                "window": 1.0}),
        folder / f"{video}.npz",
    )  # fmt: skip
    return FeatureRow(video, count, count, 3)


@pytest.fixture
def table(tmp_path):
    rows = [
        write(tmp_path, "a", [[9, 0, 0], [0, 9, 0], [0, 8, 1], [0, 0, 0]], [True] * 3 + [False]),
        write(tmp_path, "b", [[1, 0, 0.1], [0, 2, 0.1]]),
    ]
    write_feature_table([*rows, FeatureRow("c", reason="missing")], tmp_path / "P01.tsv")
    return tmp_path / "P01.tsv"


def test_segments_lie_by_their_components_and_know_their_nearest(table):
    videos, starts, stops = ["a", "c", "a", "b", "b", "a"], [0, 0, 1, 0, 1, 3], [1, 9, 3, 1, 2, 4]
    found = segment_map([table], videos, starts, stops)
    assert found["segment"] == [0, 2, 5, 3, 4]  # none of a video without features
    points = np.array([[1, 0, 0], [0, 8.5, 0.5], [0, 8, 1], [1, 0, 0.1], [0, 2, 0.1]])
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    u, sizes, _ = np.linalg.svd(points - points.mean(0), full_matrices=False)
    expected = (u * sizes)[:, :2]
    flat = np.stack([found["x"], found["y"]], 1)
    assert np.abs(flat / 1000) == pytest.approx(
        np.abs(expected / np.abs(expected).max()), abs=0.002
    )
    assert found["share"] == pytest.approx((sizes[:2] ** 2).sum() / (sizes**2).sum())
    near = np.reshape(found["near"], (5, found["nearest"]))
    assert found["nearest"] == 4 and near[0, 0] == 3 and near[3, 0] == 0 and near[2, 0] == 2


def test_few_features_make_no_map_and_mixed_ones_are_refused(table, tmp_path):
    assert segment_map([table], ["a", "c"], [0, 0], [1, 1]) is None
    assert segment_map([], ["a"], [0], [1]) is None
    write(tmp_path, "b", [[1, 0, 0]], encoder="c:D")
    with pytest.raises(EpicError, match=r"b\.npz: features of another encoder"):
        segment_map([table], ["a", "b"], [0, 0], [1, 1])
