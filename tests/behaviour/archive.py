"""An archive of films: its sheet, its scan by the rules, and its frames as the dataset reads them.

Results are compared with the recorded ones in golden.json. After a change that is meant to give
other results, renew the file and look at its difference:
    EPIC100_RENEW_GOLDEN=1 python -m pytest tests/behaviour

No test is here. The library is used only through its rules, and through the classes that MMEngine
builds by name.
"""

import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from mmaction.registry import DATASETS
from mmengine.registry import init_default_scope

import epic100.mmaction  # noqa: F401
from behaviour.films import LENGTH, RATE, SIZE, times_of
from support.checkout import rows_of, run_snakemake
from support.packets import decoded


@dataclass(frozen=True)
class Film:
    """A video file of the archive: its participant and name."""

    participant: str
    name: str

    @property
    def path(self) -> Path:
        """The path of the file below the video root."""
        return Path(self.participant, f"{self.name}.MP4")


class Archive:
    """A folder with `videos/` and, once it is scanned, `results/`."""

    def __init__(self, folder: Path):
        """Name the folder of the videos, which may be empty yet."""
        self.folder = folder
        self.root = folder / "videos"

    def scan(self, films: Iterable[Film]) -> dict[str, dict[str, str]]:
        """Write a sheet and a config, scan all participants, and return the rows by video id."""
        lines = ["video_id\tparticipant_id\tsplit\tfps\tduration"]
        participants = []
        for film in films:
            lines.append(
                f"{film.name}\t{film.participant}\ttrain\t{float(RATE)}\t{float(LENGTH / RATE)}"
            )
            participants.append(film.participant)
        (self.folder / "sheet.tsv").write_text("\n".join(lines) + "\n")
        config = {"videos": {"root": "videos", "sheet": "sheet.tsv"}}
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config))
        tables = [f"results/scan/{name}.tsv" for name in dict.fromkeys(participants)]
        where = ["--directory", str(self.folder)]
        run_snakemake(*tables, *where, "--configfile", str(self.folder / "config.yaml"))
        return states(self.folder / "results")

    def read(self, segments: list[tuple[Film, int, int]]) -> list[dict[int, np.ndarray]]:
        """Read segments (film, start, stop) through the dataset, as frames by their number."""
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
            for number, (film, start, stop) in enumerate(segments):
                # Verb and noun are unknown, and the number is the narration id.
                print(film.path, start, stop, -1, -1, number, file=listed)
            listed.flush()
            dataset = self._dataset(listed.name)
        clips = [dataset[number] for number in range(len(dataset))]
        return [dict(zip(clip["frame_inds"].tolist(), clip["imgs"], strict=True)) for clip in clips]

    def _dataset(self, listed: str):
        """Build the dataset of a segment list; it decodes 3 frames of each segment."""
        init_default_scope("mmaction")
        indexes = str(self.folder / "results/scan")
        opening = {"type": "OpenSegment", "decoder": "pyav", "index_dir": indexes}
        sample = {
            "type": "SampleFrames",
            "clip_len": 3,
            "frame_interval": 2,
            "num_clips": 1,
            "out_of_bound_opt": "repeat_last",
        }
        decode = {"type": "DecodeSegment", "short_side": SIZE[1]}
        return DATASETS.build(
            {
                "type": "EpicSegmentVideoDataset",
                "ann_file": listed,
                "max_broken": 0,
                "data_root": str(self.root),
                "test_mode": True,
                "pipeline": [opening, sample, decode],
            }
        )


def states(results: Path) -> dict[str, dict[str, str]]:
    """Read the rows of all scan tables by video id."""
    return {row["video_id"]: row for path in results.glob("scan/*.tsv") for row in rows_of(path)}


def ranges(text: str) -> list[tuple[int, int]]:
    """Parse the `damaged` column of a scan table: `3-9,20-21` becomes [(3, 9), (20, 21)]."""
    pairs = (part.split("-") for part in text.split(",") if part)
    return [(int(start), int(stop)) for start, stop in pairs]


# Many damaged films are compared with the same original, so it is decoded once.
decoded_once = cache(decoded)


@dataclass
class Scanned:
    """A scanned archive of damaged films.

    Attributes:
        archive: The archive.
        damaged: Its films, each with the path of the undamaged original.
        rows: The rows of its scan tables by video id.
    """

    archive: Archive
    damaged: dict[Film, Path]
    rows: dict[str, dict[str, str]]

    def shown(self, film: Film) -> list[np.ndarray | None]:
        """Decode a film leniently; return its frames by number, None for one that is missing."""
        path = self.archive.root / film.path
        frames = decoded(path)
        return [frames.get(time) for time in times_of(path)]

    def expected(self, film: Film) -> tuple[list[int], list[np.ndarray]]:
        """Find the frames of a damaged film in its original.

        Returns:
            The number in the original of each frame, and all frames of the original.
        """
        frames = decoded_once(self.damaged[film])
        times = np.array(times_of(self.archive.root / film.path))
        original_times = np.array(list(frames))
        # Times are compared from the first frame on, because a rewritten file may start later.
        numbers = np.searchsorted(original_times - original_times[0], times - times[0])
        assert np.array_equal((original_times - original_times[0])[numbers], times - times[0])
        return numbers.tolist(), list(frames.values())


GOLDEN = Path(__file__).with_name("golden.json")


def require_golden(name: str, found: dict, made_of: str) -> None:
    """Require that results equal the recorded ones, or record them if EPIC100_RENEW_GOLDEN is set.

    Another machine may make other inputs: its encoder, or the rounding of its numbers. It has a
    separate record, or none yet; then the test is skipped.

    Args:
        name: The key of these results in golden.json.
        found: The results now.
        made_of: Digest of the inputs of these results.
    """
    records = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("EPIC100_RENEW_GOLDEN"):
        records.setdefault(name, {})[made_of] = found
        GOLDEN.write_text(json.dumps(records, indent=1, sort_keys=True) + "\n")
        return
    if made_of not in records[name]:
        pytest.skip(f"no record in {GOLDEN.name} is of the inputs that this machine makes")
    assert found == records[name][made_of]
