"""Rule figures_results: predictions on val -> classes and examples with frames."""

import os

from epic100.base.log import rule_log
from epic100.base.text_table import write_frame
from epic100.data.official_lists import read_class_names
from epic100.pages.examples import at_random, by_class, surest, write_examples
from epic100.scoring.outcomes import outcomes, read_labels
from epic100.scoring.predictions import read_predictions

with rule_log(snakemake.log[0]):
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    names = read_class_names(
        (given.train_annotations, given.val_annotations),
        {key: given[key] for key in params.class_lists},
    )
    predictions = read_predictions(given.predictions, "val")
    outcome = outcomes(predictions, read_labels(given.segments, {}), params.reduce)
    classes = by_class(outcome, predictions.pairs, names)
    write_frame(classes, made.classes, float_format="%.2f")
    # These are drawn first, and from all segments, so that they represent all.
    drawn = at_random(outcome)
    others = outcome.drop(drawn.index)
    groups = {
        "most surely right": surest(others, right=True),
        "most surely wrong": surest(others, right=False),
        "drawn at random": drawn,
    }
    indexes = os.path.dirname(given.indexes[0])
    write_examples(groups, given.clean, params.root, indexes, names, made.examples)
