"""Rule annotate: official CSV -> segment list."""

from epic100.base.log import log, rule_log
from epic100.data.annotations import index_segments, read_annotations
from epic100.data.segment_list import write_segments
from epic100.video.sheet import read_sheet

with rule_log(snakemake.log[0]):
    videos = {video.video_id: video for video in read_sheet(snakemake.input.sheet)}
    annotations = read_annotations(
        snakemake.input.annotations,
        videos,
        split=snakemake.wildcards.split,
        **snakemake.params.reading,
    )
    segments = index_segments(annotations, videos)
    write_segments(segments, snakemake.output.segments)
    log.info(f"{len(segments)} segments in {annotations['video_id'].nunique()} videos")
