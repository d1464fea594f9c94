"""Rule annotations_ok: compare the annotation files with the pinned checksums."""

from epic100.base.log import rule_log
from epic100.download.annotations import verify_annotations

with rule_log(snakemake.log[0]):
    verify_annotations(
        {key: snakemake.input[key] for key in snakemake.params.files},
        snakemake.input.sheet,
        snakemake.output.ok,
    )
