"""Rule figures_results: predictions on val -> metrics, classes, confusion and strips of frames."""

import json
import os
from pathlib import Path

from epic100.base.atomic import atomic_path
from epic100.base.log import rule_log
from epic100.figures.outcomes import by_class, outcomes
from epic100.figures.results import plot_confusion, plot_official, plot_per_class
from epic100.figures.strips import plot_strips, surest
from epic100.scoring.predictions import read_predictions
from epic100.segments.class_names import read_class_names
from epic100.segments.official_lists import read_list

with rule_log(snakemake.log[0]):
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    names = read_class_names(
        (given.train_annotations, given.val_annotations) if params.format == "official" else (),
        {key: given[key] for key in params.class_lists},
    )
    listed = given.get("unseen_participants")
    unseen = read_list(listed, "unseen_participants") if listed else []
    predictions = read_predictions(given.predictions, "val")
    outcome = outcomes(predictions, given.segments, params.reduce)
    figures = json.loads(Path(given.metrics).read_text(encoding="utf-8"))
    classes = by_class(outcome, predictions.pairs, names)
    with atomic_path(made.classes) as temporary:
        classes.to_csv(temporary, sep="\t", index=False, float_format="%.2f")
    plot_official(figures, outcome, unseen, made.official)
    plot_per_class(classes, made.per_class)
    plot_confusion(outcome, names, made.confusion)
    for path, right, title in (
        (made.best, True, "Where the model was most surely right"),
        (made.worst, False, "Where the model was most surely wrong"),
    ):
        plot_strips(
            surest(outcome, right), given.clean, params.root, os.path.dirname(given.indexes[0]),
            names, path, title=title,
        )  # fmt: skip
