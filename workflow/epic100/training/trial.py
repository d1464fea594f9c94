"""The trial of a training: two steps, a resume and a prediction, on a film that it makes itself.

It is a separate process, for which `cli.start` asks:

    python -m epic100.training.trial FOLDER

It reads a request as JSON from stdin, works in the folder, and prints the answer in its last line:
`passed`, or the error.
"""

import json
import logging
import sys
import traceback
from contextlib import redirect_stdout
from itertools import chain
from pathlib import Path
from typing import Any

import av
import pandas as pd

from epic100.base.atomic import copy_file
from epic100.base.errors import EpicError
from epic100.data.pairs import pair_table, pairs_path, read_pairs, write_pairs
from epic100.data.segment_list import COLUMNS, write_segments
from epic100.prediction.predict import predict
from epic100.settings.data import Classes
from epic100.settings.prediction import PredictSettings
from epic100.settings.training import Modules, TrainSettings
from epic100.training.train import train


def trial(request: dict[str, Any], folder: Path) -> None:
    """Train, resume and predict as a run with these settings would.

    Args:
        request: The training, as `cli.start.request_of` makes it.
        folder: An empty folder for all files of the trial.

    Raises:
        Exception: The training does not work. Any library may raise any error.
    """
    settings = request["settings"]
    classes = Classes(**settings["classes"])
    weights = request["weights"] if Path(request["weights"] or "").is_file() else None
    training = TrainSettings(**settings["train"]).begun_with(request["recipe"], weights)
    model = folder / "model.pth"
    modules = Modules(**settings["modules"]).model_dump()
    job: dict[str, Any] = {"video_root": str(folder), "modules": modules}
    make_film(folder / "P00_00.MP4")
    write_lists(folder, training.split, classes)

    for _ in range(2):
        train(
            training,
            results=str(folder),
            model_path=model,
            history_path=folder / "training.tsv",
            num_verbs=classes.verbs,
            num_nouns=classes.nouns,
            **job,
        )
        # Without the finished model and the last checkpoint, the second training resumes the first.
        saved = sorted(folder.glob("work_dirs/**/*.pth"), key=lambda path: path.stat().st_mtime_ns)
        for path in saved[1:]:
            path.unlink()
    predict(
        model,
        folder / "clean/val.txt",
        folder / "val.pt",
        split="val",
        index_dir=str(folder / "scan"),
        settings=PredictSettings(**settings["predict"]),
        **job,
    )


def make_film(path: Path) -> None:
    """Write three seconds of moving colours, in the size of EPIC-KITCHENS' small copies."""
    with (
        av.open("testsrc=size=456x256:rate=30:duration=3", format="lavfi") as source,
        av.open(str(path), "w", format="mp4") as film,
    ):
        stream = film.add_stream("libx264", rate=30, width=456, height=256, pix_fmt="yuv420p")
        # For None, the encoder gives the packets that it still holds.
        for frame in chain(source.decode(video=0), [None]):
            film.mux(stream.encode(frame))


def write_lists(folder: Path, split: str, classes: Classes) -> None:
    """Write clean lists of two segments of the film, as the rule clean does, and a pair table.

    The table is that of the run if it is there, since a loss of the user may have a weight for each
    pair.
    """
    own, table = (pairs_path(results, split) for results in ("results", str(folder)))
    is_there = Path(own).is_file()
    pairs = read_pairs(own) if is_there else [(0, 0, 1), (classes.verbs - 1, classes.nouns - 1, 1)]
    film = "P00/P00_00.MP4"
    first = (film, 0, 60, *pairs[0][:2], "P00_00_0", 0.0, 2.0)
    last = (film, 30, 90, *pairs[-1][:2], "P00_00_1", 1.0, 3.0)
    segments = pd.DataFrame([first, last], columns=list(COLUMNS))
    write_segments(segments, folder / f"clean/{split}.txt")
    write_segments(segments.tail(1), folder / "clean/val.txt")
    if is_there:
        copy_file(own, table)
    else:
        write_pairs(pair_table(segments), table)


def main(folder: str) -> None:
    """Make the trial of the request on stdin, and print the answer."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    request, answer = json.loads(sys.stdin.read()), "passed"
    with redirect_stdout(sys.stderr):  # Libraries print, but stdout is for the answer.
        try:
            trial(request, Path(folder))
        except EpicError as error:
            answer = str(error)
        except Exception as error:
            traceback.print_exc()
            quoted = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            answer = (
                f"config: a training with these settings fails in its trial ({quoted}); correct "
                f"`train: options:` or {request['recipe']}"
            )
    sys.stdout.write(f"{answer}\n")


if __name__ == "__main__":
    main(sys.argv[1])
