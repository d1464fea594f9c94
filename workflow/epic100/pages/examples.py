"""Predictions on val compared with the labels: every class, and examples with frames."""

import base64
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from epic100.base.atomic import write_text
from epic100.base.errors import DiskError, EpicError
from epic100.base.guarded import ProcessError
from epic100.data.official_lists import TASKS, ClassNames
from epic100.data.segment_list import read_segments
from epic100.video.index import find_index
from epic100.video.reader import VideoReader
from epic100.video.sheet import find_files

# The maximum number of examples of a group.
EXAMPLES = 6
# The image of an example has six frames, three in a row.
FRAME_COUNT = 6
COLUMNS = 3
# The width of a frame, and that of the white line between two frames, in pixels.
FRAME_WIDTH = 140
GAP_WIDTH = 3


def by_class(
    outcome: pd.DataFrame, pairs: Sequence[tuple[int, int, int]], names: ClassNames
) -> pd.DataFrame:
    """Compute the val accuracy of every verb and noun that val or train has.

    Only segments with a prediction count.

    Args:
        outcome: The result of `scoring.outcomes.outcomes`, a row for each segment.
        pairs: (verb, noun, count in training) of each pair.
        names: Class names.

    Returns:
        Columns `task class_id name train_segments val_segments top1 top5 often_taken_for`, the most
        frequent in val first. The column `val_segments` counts segments with a prediction.
        Accuracies are in percent, empty for a class that val does not have.
    """
    trained = pd.DataFrame(pairs, columns=["verb", "noun", "count"])
    predicted = outcome[outcome["predicted"]]
    tables = []
    for task in TASKS:
        groups = predicted.groupby(task)
        table = pd.DataFrame(
            {
                "train_segments": trained.groupby(task)["count"].sum(),
                "val_segments": groups.size(),
                "top1": 100 * groups[f"{task}_at_1"].mean(),
                "top5": 100 * groups[f"{task}_at_5"].mean(),
            }
        ).rename_axis("class_id")
        # A class that only one of train and val has gets 0 for the other one.
        counts = ["val_segments", "train_segments"]
        table[counts] = table[counts].fillna(0).astype(int)
        # The mode is the most frequent wrong guess; of several, the lowest class id is taken.
        wrong = predicted[predicted[task] != predicted[f"{task}_guess"]]
        guesses = wrong.groupby(task)[f"{task}_guess"].agg(lambda guess: guess.mode().iloc[0])
        often = guesses.map(partial(names, task)).reindex(table.index, fill_value="")
        # The columns before and after the numbers.
        table = table.assign(often_taken_for=often).reset_index()
        table.insert(0, "task", task)
        table.insert(2, "name", table["class_id"].map(partial(names, task)))
        tables.append(table.sort_values(counts, ascending=False, kind="stable"))
    return pd.concat(tables, ignore_index=True)


def surest(outcome: pd.DataFrame, right: bool) -> pd.DataFrame:
    """Select the right or the wrong guesses with the highest confidence, one per true action.

    Args:
        outcome: The result of `scoring.outcomes.outcomes`.
        right: True selects right guesses, False wrong ones.

    Returns:
        At most `EXAMPLES` rows of `outcome`, the surest first.
    """
    rows = outcome[outcome["predicted"] & (outcome["action_at_1"] == right)]
    rows = rows.sort_values("action_confidence", ascending=False, kind="stable")
    return rows.drop_duplicates(["verb", "noun"])[:EXAMPLES]


def at_random(outcome: pd.DataFrame) -> pd.DataFrame:
    """Draw `EXAMPLES` predicted segments at random, always the same, in the order of the list."""
    rows = outcome[outcome["predicted"]]
    return rows.sample(min(EXAMPLES, len(rows)), random_state=0).sort_index()


def write_examples(
    groups: Mapping[str, pd.DataFrame],
    segments_path: str | os.PathLike,
    video_root: str | os.PathLike,
    index_dir: str | os.PathLike,
    names: ClassNames,
    out: str | os.PathLike,
) -> None:
    """Write the examples of the report: frames of a segment, its true and its guessed action.

    Where a video is missing or does not decode, the reason is written in place of the frames.

    Args:
        groups: Rows of `outcomes`, by the name of the group, such as `most surely right`.
        segments_path: Clean list of the segments, in frames of the file.
        video_root: Folder of the videos.
        index_dir: Folder of the frame indexes; frames are read as in training.
        names: Class names.
        out: JSON: by group, a list of objects `narration_id truth truth_percent guess guess_percent
            right picture problem`; `picture` is a JPEG as a `data:` URL.

    Raises:
        DiskError: The disk fails under a video or its index.
    """
    segments = read_segments(segments_path).set_index("narration_id")
    examples: dict[str, list[dict[str, Any]]] = {group: [] for group in groups}
    for group, rows in groups.items():
        for row in rows.to_dict("records"):
            image = problem = ""
            try:
                segment = segments.loc[row["narration_id"]].to_dict()
                image = _data_url(_frame_grid(segment, video_root, index_dir))
            except (DiskError, ProcessError):
                # The same command may find the frames next time.
                raise
            except EpicError as error:
                problem = str(error)
            guess = f"{names('verb', row['verb_guess'])} {names('noun', row['noun_guess'])}"
            examples[group].append(
                {
                    "narration_id": row["narration_id"],
                    "truth": f"{names('verb', row['verb'])} {names('noun', row['noun'])}",
                    "truth_percent": round(100 * row["action_label_score"], 1),
                    "guess": guess,
                    "guess_percent": round(100 * row["action_confidence"], 1),
                    "right": bool(row["action_at_1"]),
                    "picture": image,
                    "problem": problem,
                }
            )
    write_text(out, json.dumps(examples, indent=1) + "\n")


def _frame_grid(
    segment: Mapping, root: str | os.PathLike, index_dir: str | os.PathLike
) -> np.ndarray:
    """Read evenly spaced frames of a segment and join them to one image, in rows of `COLUMNS`.

    Returns:
        uint8 RGB [height, width, 3].

    Raises:
        EpicError: A frame cannot be read.
        DiskError: The disk fails.
    """
    # The path in the list is relative to the root, and the file may have another suffix.
    listed_path = Path(segment["path"])
    video = find_files([listed_path], root)[listed_path]
    if not video.is_file():
        raise EpicError(f"{video.name} is missing")
    last_frame = segment["stop"] - 1
    frame_numbers = np.linspace(segment["start"], last_frame, FRAME_COUNT).round().astype(int)
    with closing(VideoReader(video, find_index(index_dir, listed_path))) as reader:
        height, width = reader.size
        size = (round(height * FRAME_WIDTH / width), FRAME_WIDTH)
        frames = reader.get_frames(frame_numbers.tolist(), size=size)
    # Each frame gets white pixels below and on its right. The outermost of them are cut off.
    padded = np.pad(frames, ((0, 0), (0, GAP_WIDTH), (0, GAP_WIDTH), (0, 0)), constant_values=255)
    rows = [np.hstack(list(padded[i : i + COLUMNS])) for i in range(0, FRAME_COUNT, COLUMNS)]
    return np.vstack(rows)[:-GAP_WIDTH, :-GAP_WIDTH]


def _data_url(image: np.ndarray) -> str:
    """Write an image, uint8 RGB, as a JPEG in a `data:` URL for an `img` of a page."""
    # OpenCV expects the channels in the order blue, green, red.
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
