"""Rule compare: the finished runs -> one table, one page."""

from pathlib import Path

from epic100.base.log import rule_log
from epic100.pages.compare import read_runs, write_compare_page, write_table
from epic100.scoring.outcomes import read_labels
from epic100.settings.config import RUNS

with rule_log(snakemake.log[0]):
    lists = {key: snakemake.input[key] for key in snakemake.params.lists}
    labels = read_labels(snakemake.input.segments, lists)
    folders = {str(Path(path).parent) for path in snakemake.input.metrics}
    folders |= {*snakemake.params.others}
    notes = [
        f"not shown: {path}: has no metrics.json and predictions/val.pt yet"
        for path in sorted(Path(RUNS).glob("*"))
        if str(path) not in folders
    ]
    comparison = read_runs(sorted(folders), labels, snakemake.params.classes, notes)
    write_table(comparison, snakemake.output.table)
    write_compare_page(comparison, snakemake.output.page)
