"""Rule figures_data: official CSVs -> pictures of segments, lengths and classes."""

from epic100.base.log import rule_log
from epic100.figures.data import (
    annotated_segments,
    plot_classes,
    plot_lengths,
    plot_participants,
)
from epic100.segments.official_lists import read_class_names
from epic100.settings import Settings
from epic100.video.sheet import read_sheet

with rule_log(snakemake.log[0]):
    params = snakemake.params
    settings = Settings.part(params.settings)
    csvs = {split: snakemake.input[split] for split in params.splits}
    videos = {video.video_id: video for video in read_sheet(snakemake.input.sheet)}
    segments = annotated_segments(
        csvs,
        videos,
        **settings.reading,
    )
    names = read_class_names(
        csvs.values() if settings.annotations.format == "official" else (),
        {key: snakemake.input[key] for key in params.class_lists},
    )
    plot_participants(segments, videos, snakemake.output.participants)
    plot_lengths(segments, names, snakemake.output.lengths)
    plot_classes(segments, names, snakemake.output.classes)
