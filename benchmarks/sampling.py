"""What a clip sees of real segments, for each way to take its frames.

    python benchmarks/sampling.py EPIC_100_validation.csv [SHEET]

Reads the official CSV and the video sheet (config/videos.tsv), and lets MMAction2's own samplers
choose the frames of the middle clip of every segment. Prints, for each choice, the seconds from the
first to the end of the last frame (median; of a dense clip in a segment that is long enough), the
share of segments that are shorter than a dense
clip, the share of frames that repeat the one before, and the share of a segment that the clip spans
(mean). The table stands in config/README.md.
"""

import argparse
from pathlib import Path

import numpy as np
from mmaction.registry import TRANSFORMS
from mmengine.registry import init_default_scope

import epic100.clips.dataset  # noqa: F401
from epic100.segments.annotations import index_segments, load_annotations
from epic100.video.sheet import read_sheet

ROOT = Path(__file__).resolve().parent.parent
CLASSES = {"verbs": 97, "nouns": 300}
DENSE = {"type": "SampleFrames", "out_of_bound_opt": "repeat_last", "test_mode": True}
SEGMENT = {"type": "UniformSample", "test_mode": True}
CHOICES = {
    "dense 13 x 6, file's rate": {**DENSE, "clip_len": 13, "frame_interval": 6},
    "dense 13 x 6 at 60": {**DENSE, "clip_len": 13, "frame_interval": 6, "target_fps": 60},
    "dense 13 x 6 at 30": {**DENSE, "clip_len": 13, "frame_interval": 6, "target_fps": 30},
    "dense 32 x 2 at 60 (SlowFast)": {
        **DENSE, "clip_len": 32, "frame_interval": 2, "target_fps": 60,
    },
    "segment 13": {**SEGMENT, "clip_len": 13},
    "segment 16": {**SEGMENT, "clip_len": 16},
    "8 over the segment (TSM)": {**DENSE, "clip_len": 1, "num_clips": 8},
}  # fmt: skip


def look(step: dict, segments, rates: dict[str, float]) -> dict[str, float]:
    """Seconds, and shares in percent, of one choice over all segments."""
    sampler = TRANSFORMS.build(step)
    seconds, shorter, repeated, frames, seen = [], 0, 0, 0, []
    for row in segments.itertuples():
        rate, length = rates[Path(row.path).stem], row.stop - row.start
        found = sampler.transform({"total_frames": length, "start_index": 0, "avg_fps": rate})
        indices = np.sort(found["frame_inds"])
        wanted = span = indices[-1] - indices[0] + 1
        if step["type"] == "SampleFrames" and step["clip_len"] > 1:
            scale = rate / step["target_fps"] if step.get("target_fps") else 1.0
            wanted = (step["clip_len"] - 1) * step["frame_interval"] * scale + 1
            shorter += length < wanted
        repeated += int((np.diff(indices) == 0).sum())
        frames += len(indices)
        seconds.append(wanted / rate)
        seen.append(span / length)
    return {
        "seconds": float(np.median(seconds)),
        "shorter": 100 * shorter / len(segments),
        "repeated": 100 * repeated / frames,
        "seen": 100 * float(np.mean(seen)),
    }


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("csv", type=Path)
    parser.add_argument("sheet", nargs="?", type=Path, default=ROOT / "config/videos.tsv")
    given = parser.parse_args()
    init_default_scope("mmaction")
    videos = {video.video_id: video for video in read_sheet(given.sheet)}
    table = load_annotations(given.csv, videos, split="val", classes=CLASSES)
    segments = index_segments(table, videos)
    rates = {name: video.fps for name, video in videos.items()}
    print(f"{len(segments)} segments of {given.csv.name}")
    print("| a clip's frames | seconds | shorter segments | repeated frames | of a segment |")
    print("|---|---|---|---|---|")
    for name, step in CHOICES.items():
        row = look(step, segments, rates)
        shorter = f"{row['shorter']:.1f} %" if "dense" in name else "-"
        print(
            f"| {name} | {row['seconds']:.2f} | {shorter} | {row['repeated']:.1f} % "
            f"| {row['seen']:.0f} % |"
        )


if __name__ == "__main__":
    main()
