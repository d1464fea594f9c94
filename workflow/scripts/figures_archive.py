"""Rule figures_archive: CSVs, scan tables, dropped segments -> figures of data and damage."""

import pandas as pd

from epic100.base.log import rule_log
from epic100.base.text_table import read_frame
from epic100.data.official_lists import read_class_names
from epic100.data.segment_list import read_segments
from epic100.pages.archive_figures import (
    annotated_segments,
    plot_archive,
    plot_close_up,
    plot_lengths,
)
from epic100.video.scan_table import read_scan_table
from epic100.video.sheet import read_sheet

with rule_log(snakemake.log[0]):
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    csvs = {split: given[split] for split in params.splits}
    videos = {video.video_id: video for video in read_sheet(given.sheet)}
    annotated = annotated_segments(csvs, videos, **params.reading)
    names = read_class_names(
        csvs.values(),
        {key: given[key] for key in params.class_lists},
    )
    plot_lengths(annotated, names, made.lengths)
    rows = {row.video_id: row for path in given.scans for row in read_scan_table(path)}
    segments = pd.concat(map(read_segments, given.segments), ignore_index=True)
    dropped = read_frame(given.dropped, dtype=str)
    plot_archive(videos, rows, made.archive)
    plot_close_up(videos, rows, segments, dropped["narration_id"], made.close_up)
