"""Rule timeline: a complete video of the sheet -> the actions that the model predicts along it."""

from epic100.base.log import rule_log
from epic100.prediction.clip_outputs import scanned_video
from epic100.prediction.timeline_model import ModelInUse
from epic100.prediction.whole_videos import make_timeline
from epic100.settings.prediction import PredictSettings, TimelineSettings
from epic100.settings.training import Modules

with rule_log(snakemake.log[0]):
    params = snakemake.params
    make_timeline(
        scanned_video(
            snakemake.wildcards.video,
            params.participant,
            root=params.root,
            table=snakemake.input.scan,
            index=snakemake.input.index,
        ),
        ModelInUse(snakemake.input.model, background=snakemake.input.background or None),
        snakemake.output.tsv,
        settings=TimelineSettings(**params.timeline),
        predict=PredictSettings(**params.predict | {"encoder": params.encoder}),
        modules=Modules(**params.modules).model_dump(),
        requested_gpus=snakemake.resources.get("gpu", 0),
    )
