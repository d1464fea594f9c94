"""Rule compare: the finished runs -> one table and one page."""

import os

from epic100.base.log import rule_log
from epic100.compare.runs import read_runs, write_table
from epic100.report.compare_page import write_compare_page
from epic100.scoring.truth import read_truth
from epic100.settings import Settings

with rule_log(snakemake.log[0]):
    lists = {key: snakemake.input[key] for key in snakemake.params.lists}
    settings = Settings.part(snakemake.params.settings)
    truth = read_truth(snakemake.input.segments, lists)
    folders = [os.path.dirname(path) for path in snakemake.input.metrics]
    folders += snakemake.params.others
    runs = read_runs(sorted(folders), truth, settings.classes.model_dump())
    write_table(runs, snakemake.output.table)
    write_compare_page(runs, truth, snakemake.output.page)
