"""Files of arrays whose values do not fit together, or that unpack to gigabytes."""

import zipfile

import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.features.participant import read_features
from support.fuzzing import write_small_features


def packed_zeros(path):
    """600 MiB of zeros in 600 KB, as one more array."""
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("more.npy", "w", force_zip64=True) as member,
    ):
        for _ in range(600):
            member.write(bytes(2**20))


def changed(**change):
    """Rewrite a file with some arrays replaced."""

    def spoil(path):
        with np.load(path) as arrays:
            kept = dict(arrays)
        np.savez(path, **(kept | {name: np.array(value) for name, value in change.items()}))

    return spoil


MADE_FROM = '{"encoder": "", "model": "ab", "load_from": null, "stride": %s, "window": 1.0}'


@pytest.mark.slow
@pytest.mark.parametrize("spoil, words", [
    (packed_zeros, "600 MiB unpacked, at most 512"),
    (changed(feats=[[np.nan] * 3] * 4), "its feats: .* 4 of .* NaN"),
    (changed(feats=np.ones((3, 3), np.float32)), "its valid: .* 4 rows, but 3 elsewhere"),
    (changed(valid=[False] * 4), "no row that is free of damage"),
    (changed(times=[0.5, 0.25, 1.0, 2.0]), "its times: .* do not rise"),
    (changed(middle=np.arange(4.0)), "its middle: .* is float64"),
    (changed(frames=np.zeros((4, 3), int)), "its frames: .* 3 2, but 2 elsewhere"),
    (changed(fps=-1.0), "its fps is -1.0: "),
    (changed(made_from="[]"), "its made_from is "),
    (changed(made_from=MADE_FROM % "0"), "no time from row to row"),
    (changed(made_from=MADE_FROM % "[]"), "TypeError"),
    (changed(made_from="{}"), "KeyError"),
])  # fmt: skip
def test_features_that_do_not_fit_together_or_unpack_to_gigabytes_are_one_error(
    tmp_path, spoil, words
):
    path = tmp_path / "P01_01.npz"
    write_small_features(path)
    assert read_features(path).feats.shape == (4, 3)
    spoil(path)
    with pytest.raises(EpicError, match=rf"P01_01\.npz: not whole features .*{words}"):
        read_features(path)
