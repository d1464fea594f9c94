"""Rule clean: segments and scans -> clean lists, pair table, reasons for dropped segments."""

from epic100.base.log import rule_log
from epic100.data.cleaning import clean
from epic100.settings.data import Participants
from epic100.video.sheet import read_sheet

with rule_log(snakemake.log[0]):
    params = snakemake.params
    clean(
        {video.video_id: video for video in read_sheet(snakemake.input.sheet)},
        segments={split: snakemake.input[f"{split}_segments"] for split in params.splits},
        scans=snakemake.input.scans,
        lists={split: snakemake.output[split] for split in params.splits},
        pairs=snakemake.output.pairs,
        dropped=snakemake.output.dropped,
        salvage=snakemake.output.salvage,
        policy=params.policy,
        participants=Participants(**params.participants),
        accept=params.accept,
        absent=params.absent,
        subset=params.subset,
    )
