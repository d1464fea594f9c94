"""Rule figures_training: history of the training -> its curves."""

from epic100.base.log import rule_log
from epic100.pages.training_figures import plot_training
from epic100.scoring.epoch_table import read_epochs

with rule_log(snakemake.log[0]):
    history = read_epochs(snakemake.input.history)
    plot_training(history, snakemake.output.training)
