"""`epic100 predict`: timelines of complete videos by a trained model."""

import argparse
import logging
from typing import Any

from epic100.base.errors import EpicError
from epic100.base.log import log_to_stdout
from epic100.data.official_lists import CLASS_LISTS, read_class_names
from epic100.prediction.timeline_model import ModelInUse
from epic100.prediction.whole_videos import make_timelines
from epic100.settings.prediction import PredictSettings, TimelineSettings
from epic100.settings.section import checked_section


def run(options: argparse.Namespace) -> int:
    """Make the timelines of the videos that the command names.

    Returns:
        The exit status: 130 after Ctrl-C, else 0.
    """
    if len(options.model) > 1:
        raise EpicError(
            f"--model is given {len(options.model)} times; a timeline takes one model; call once "
            "for each, with its own --out"
        )
    timeline = checked_section(TimelineSettings, _options_of(options, "timeline."), prefix="--")
    predict = checked_section(PredictSettings, _options_of(options, "predict."), prefix="--")
    # Without lists, the model file itself names its classes.
    names = (
        read_class_names(csvs=[], lists=dict(zip(CLASS_LISTS, options.class_lists, strict=True)))
        if options.class_lists
        else None
    )
    log_to_stdout()
    try:
        # The option `--background` is the background.json of the model's run, or None.
        model = ModelInUse(options.model[0], names, background=options.background)
        make_timelines(options.videos, model, options.out, settings=timeline, predict=predict)
    except KeyboardInterrupt:
        logging.getLogger(__name__).error("stopped by Ctrl-C; the same command goes on")
        return 130
    return 0


def _options_of(options: argparse.Namespace, prefix: str) -> dict[str, Any]:
    """Select the options with a prefix, such as `timeline.`: `timeline.stride` becomes `stride`."""
    return {
        key.removeprefix(prefix): value
        for key, value in vars(options).items()
        if key.startswith(prefix)
    }
