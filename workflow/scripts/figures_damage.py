"""Rule figures_damage: scan tables and dropped segments -> pictures of both."""

import pandas as pd

from epic100.base.log import rule_log
from epic100.figures.damage import plot_archive, plot_close_up, plot_dropped
from epic100.segments.segment_list import read_segments
from epic100.video.scan_table import read_scan_table
from epic100.video.sheet import read_sheet

with rule_log(snakemake.log[0]):
    videos = {video.video_id: video for video in read_sheet(snakemake.input.sheet)}
    rows = {row.video_id: row for path in snakemake.input.scans for row in read_scan_table(path)}
    segments = pd.concat(map(read_segments, snakemake.input.segments), ignore_index=True)
    dropped = pd.read_csv(snakemake.input.dropped, sep="\t", dtype=str)
    salvage = pd.read_csv(snakemake.input.salvage, sep="\t")
    made, gone = snakemake.output, dropped["narration_id"]
    plot_archive(videos, rows, made.archive)
    plot_close_up(videos, rows, segments, gone, made.close_up)
    plot_dropped(dropped, salvage, made.dropped)
