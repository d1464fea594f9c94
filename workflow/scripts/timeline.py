"""Rule timeline: the trained model over a whole video of the sheet."""

from epic100.base.log import rule_log
from epic100.prediction.predict import PredictSettings
from epic100.timeline.run import ModelInUse, make_timeline
from epic100.timeline.scanned import scanned_video
from epic100.timeline.settings import TimelineSettings

with rule_log(snakemake.log[0]):
    params = snakemake.params
    make_timeline(
        scanned_video(
            snakemake.wildcards.video,
            params.participant,
            params.root,
            snakemake.input.scan,
            snakemake.input.index,
        ),
        ModelInUse(snakemake.input.model),
        snakemake.output.tsv,
        settings=TimelineSettings(**params.settings),
        predict=PredictSettings(**params.predict),
        modules=params.modules,
        asked=snakemake.resources.get("gpu", 0),
    )
