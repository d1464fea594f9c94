"""metrics.json: the official figures on the validation split, and what they rest on."""

import json
import os
from pathlib import Path

from epic100.atomic import atomic_path
from epic100.errors import EpicError
from epic100.metrics import official_hits, official_metrics
from epic100.official_lists import LISTS, read_list
from epic100.prediction import read_predictions
from epic100.scores import REDUCTIONS
from epic100.segments import read_segments
from epic100.submission.export import complete_scores


def evaluate(
    predictions_path: str | os.PathLike,
    segments_path: str | os.PathLike,
    out: str | os.PathLike,
    *,
    lists: dict[str, str],
    reduce: str,
) -> dict:
    """Write the official figures of split val, in percent, and return them.

    `lists`: paths by the keys of `official_lists.LISTS`; a figure whose list is absent is null.
    Besides the official names: `readable_*` (the same over segments that could be predicted),
    `segments`, `predicted`, and `by_reduce` with the overall figures of each way to fold pairs.
    """
    if reduce not in REDUCTIONS:
        raise EpicError(f"reduce is {reduce!r}; expected one of {', '.join(REDUCTIONS)}")
    predictions = read_predictions(predictions_path, "val")
    segments = read_segments(segments_path)
    groups = {key: read_list(lists[key], key) if key in lists else [] for key in LISTS}
    truth = (segments["verb"].to_numpy(), segments["noun"].to_numpy())
    participants = [Path(name).parent.name for name in segments["path"]]
    figures: dict = {}
    by_reduce = {}
    for way in REDUCTIONS:
        verb, noun, predicted = complete_scores(predictions, segments["narration_id"].tolist(), way)
        found = official_metrics(verb, noun, *truth, participants, **groups)
        hits = official_hits(verb, noun, *truth)
        for name, right in hits.items():
            readable = right[predicted.numpy()]
            key = f"readable_{name.replace('_at_', '_accuracy_at_')}"
            found[key] = 100.0 * float(readable.mean()) if len(readable) else None
        by_reduce[way] = {k: v for k, v in found.items() if k.startswith(("overall", "readable"))}
        if way == reduce:
            figures = found
    figures |= {
        "reduce": reduce,
        "segments": len(segments),
        "predicted": int(predicted.sum()),
        "by_reduce": by_reduce,
    }
    with atomic_path(out) as temporary:
        temporary.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return figures
