"""Features by way of the library, as the rule makes them. No test in here."""

from pathlib import Path

from epic100.features.participant import make_features
from epic100.features.tokens import make_tokens
from epic100.prediction.encoder import source_of
from epic100.settings import FeatureSettings, PredictSettings

COLOURS = "support.encoders:Colours"


def make(
    folder: Path, table: Path, encoder=COLOURS, participant="P01", model=None, batch=8, **settings
) -> Path:
    """Make those of a participant whose videos and results are in `folder`; the table's folder."""
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


def tokens(
    folder: Path, out: Path, encoder=COLOURS, model=None, grid=(4, 4), splits=("train", "val")
) -> list[Path]:
    """Make those of splits whose videos and results are in `folder`; their indexes."""
    made = [out / f"{split}.tokens.json" for split in splits]
    for split, index in zip(splits, made, strict=True):
        make_tokens(
            folder / f"results/clean/{split}.txt",
            index,
            source_of(encoder, model),
            video_root=str(folder / "videos"),
            index_dir=folder / "results/scan",
            settings=FeatureSettings(encoder=encoder, grid=list(grid)),
            predict=PredictSettings(workers=0, device="cpu", batch_size=32),
        )
    return made
