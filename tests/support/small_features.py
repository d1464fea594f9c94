"""Make features by the library, as the rules do. No test is here."""

from pathlib import Path

from epic100.prediction.encoder import source_of
from epic100.prediction.features import make_features
from epic100.settings.prediction import FeatureSettings, PredictSettings

COLOURS = "support.encoders:Colours"


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
