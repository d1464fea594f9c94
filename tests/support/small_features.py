"""Small encoders as a user may write them, two of them wrong, and features made by them."""

from pathlib import Path

from epic100.prediction.encoder import source_of
from epic100.prediction.features import make_features
from epic100.settings.prediction import FeatureSettings, PredictSettings

COLOURS = "support.small_features:Colours"


def make(
    folder: Path, table: Path, encoder=COLOURS, participant="P01", model=None, batch=8, **settings
) -> Path:
    """Make the features of a participant of the lab in `folder`; return the folder of the table."""
    scan = folder / f"results/scan/{participant}.tsv"
    make_features(
        participant,
        table,
        source_of(encoder, model),
        root=folder / "videos",
        scan=scan,
        index=scan.with_suffix(".index.npz"),
        settings=FeatureSettings(**{"encoder": encoder, "stride": 0.5} | settings),
        predict=PredictSettings(workers=0, device="cpu", batch_size=batch),
    )
    return table.parent


class Colours:
    """An encoder whose features are the mean colours of a 4 x 4 grid in each of three frames."""

    clip_len, frame_interval, fps, size = 3, 5, None, 16

    def __init__(self, device):
        self.device = device

    def __call__(self, clips):
        """Turn clips [N, 3, frames, 16, 16] into features [N, 3 * frames * 16]."""
        grid = clips.to(self.device).float().unflatten(-1, (4, 4)).unflatten(-3, (4, 4))
        return grid.mean(dim=(-1, -3)).flatten(1) / 255


class OfOneRow(Colours):
    """A wrong encoder that returns the features of the first clip only."""

    def __call__(self, clips):
        return super().__call__(clips)[0]


class Nameless:
    """A wrong encoder, without most of the attributes, that cannot be called."""

    clip_len, size = 3, 16
