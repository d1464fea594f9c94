"""Rule browse: segments, predictions, clips and timelines of one or two runs -> a folder."""

from epic100.base.log import rule_log
from epic100.data.downloads import data_name
from epic100.pages.browse import write_folder
from epic100.pages.browse_data import gather, shown_runs
from epic100.video.sheet import read_sheet

with rule_log(snakemake.log[0]):
    given, params, page = snakemake.input, snakemake.params, snakemake.output.html
    val = given.annotations[params.splits.index("val")]
    data = gather(
        {video.video_id: video for video in read_sheet(given.sheet)},
        page=page,
        root=params.place,
        annotations=dict(zip(params.splits, given.annotations, strict=True)),
        runs=shown_runs(
            params.names,
            params.homes,
            own=params.own,
            predictions=given.predictions,
            timelines=given.timelines,
            reduce=params.reduce,
        ),
        dropped=given.dropped,
        scans=given.scans,
        name_csvs=given.csvs,
        lists={key: given[key] for key in params.lists},
        call=params.call,
        data=data_name(val, given.pins, params.name),
        **params.reading,
    )
    write_folder(page, data, given.clips, params.max_mb)
