"""Rule browse: segments, predictions, clips and timelines of a run -> a folder to look at."""

import os
from pathlib import Path

from epic100.base.log import rule_log
from epic100.browse.content import gather
from epic100.browse.folder import write_folder
from epic100.report.template import links
from epic100.settings import Settings
from epic100.video.sheet import read_sheet

with rule_log(snakemake.log[0]):
    given, params = snakemake.input, snakemake.params
    settings = Settings.part(params.settings)
    videos = {video.video_id: video for video in read_sheet(given.sheet)}
    data = gather(
        videos,
        annotations=dict(zip(params.splits, given.annotations, strict=True)),
        predictions=given.predictions,
        dropped=given.dropped,
        scans=given.scans,
        timelines=given.timelines,
        **settings.reading,
        name_csvs=given.csvs,
        lists={key: given[key] for key in params.lists},
        reduce=settings.export.reduce,
        run=params.run,
    )
    home = Path(snakemake.output.html).parent.parent
    pages = {
        "report": home / "report.html",
        "model card": home / "model_card.md",
        "all runs": "results/compare.html",
    }
    data["pages"] = links(snakemake.output.html, pages)
    write_folder(snakemake.output.html, data, os.path.dirname(given.clips), settings.browse.max_mb)
