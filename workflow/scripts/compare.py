"""Rule compare: metrics, models and training curves of the finished runs -> one table, one page."""

import os
import tempfile

from epic100.base.job_costs import read_benchmarks
from epic100.base.log import rule_log
from epic100.compare.runs import read_runs, write_table
from epic100.figures.training import cost_in_words, plot_runs
from epic100.report.compare_page import write_compare_page
from epic100.report.page import read_picture
from epic100.scoring.epoch_table import FILE, read_epochs
from epic100.scoring.outcomes import read_truth

with rule_log(snakemake.log[0]), tempfile.TemporaryDirectory() as temporary:
    lists = {key: snakemake.input[key] for key in snakemake.params.lists}
    truth = read_truth(snakemake.input.segments, lists)
    folders = [os.path.dirname(path) for path in snakemake.input.metrics]
    folders += snakemake.params.others
    runs = read_runs(sorted(folders), truth, snakemake.params.classes)
    histories = {}
    costs = {}
    for run in runs:
        if (run.folder / FILE).is_file():
            histories[run.name] = read_epochs(run.folder / FILE)
        jobs = read_benchmarks(run.folder / "benchmarks", histories.get(run.name))
        costs[run.name] = cost_in_words(jobs)
    # Without a run that was trained here, there are no curves.
    curves = None
    if histories:
        plot_runs(histories, f"{temporary}/curves.svg")
        curves = read_picture(f"{temporary}/curves.svg")
    write_table(runs, snakemake.output.table)
    write_compare_page(runs, truth, snakemake.output.page, costs, curves)
