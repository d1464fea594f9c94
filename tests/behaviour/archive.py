"""An archive of films: its sheet, its scan by the rules, its frames through the dataset.

No test in here, and nothing of the library but what MMEngine builds by name.
"""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import yaml
from mmaction.registry import DATASETS
from mmengine.registry import init_default_scope

import epic100.mmaction  # noqa: F401
from behaviour.films import RATES, SIZE, times_of
from support.checkout import run_snakemake
from support.packets import decoded
from support.tables import rows_of


@dataclass(frozen=True)
class Film:
    """A file of the archive, and what the sheet says about it."""

    participant: str
    name: str
    rate: str = "59.94"
    pictures: int = 120

    @property
    def path(self) -> Path:
        """Below the video root."""
        return Path(self.participant, f"{self.name}.MP4")


class Archive:
    """A folder with `videos/` and, once it is scanned, `results/`."""

    def __init__(self, folder: Path):
        self.folder, self.root = folder, folder / "videos"

    def scan(self, films: Iterable[Film]) -> dict[str, dict[str, str]]:
        """Write sheet and config, scan all participants; the rows of all films."""
        lines = ["video_id\tparticipant_id\tsplit\tfps\tduration"]
        participants = []
        for film in films:
            fps = float(RATES[film.rate])
            lines.append(f"{film.name}\t{film.participant}\ttrain\t{fps}\t{film.pictures / fps}")
            participants.append(film.participant)
        (self.folder / "sheet.tsv").write_text("\n".join(lines) + "\n")
        config = {"videos": {"root": "videos", "sheet": "sheet.tsv"}}
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config))
        tables = [f"results/scan/{name}.tsv" for name in dict.fromkeys(participants)]
        where = ("--directory", str(self.folder), "--configfile", str(self.folder / "config.yaml"))
        run_snakemake(*tables, *where)
        return states(self.folder / "results")

    def read(self, segments: list[tuple[Film, int, int]]) -> list[dict[int, np.ndarray]]:
        """Frames of segments (film, start, stop) as the pipeline gives them, by their number."""
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
            for number, (film, start, stop) in enumerate(segments):
                print(film.path, start, stop, -1, -1, number, file=listed)
            listed.flush()
            dataset = self._dataset(listed.name)
        clips = [dataset[number] for number in range(len(dataset))]
        return [dict(zip(clip["frame_inds"].tolist(), clip["imgs"], strict=True)) for clip in clips]

    def _dataset(self, listed: str):
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
    """The scan tables' rows by video."""
    return {row["video_id"]: row for path in results.glob("scan/*.tsv") for row in rows_of(path)}


def ranges(text: str) -> list[tuple[int, int]]:
    """`damaged` of a scan table."""
    pairs = (part.split("-") for part in text.split(",") if part)
    return [(int(start), int(stop)) for start, stop in pairs]


# Many damaged films are compared with the same original, so it is decoded once.
whole = cache(decoded)


@dataclass
class Scanned:
    """The archive, its films by kind and its scan tables; originals of the damaged ones."""

    archive: Archive
    sound: list[Film]
    damaged: dict[Film, Path]
    rows: dict[str, dict[str, str]]

    def shown(self, film: Film) -> list[np.ndarray | None]:
        """The pictures of each frame as a lenient full decode of the file has them."""
        path = self.archive.root / film.path
        seen = decoded(path)
        return [seen.get(time) for time in times_of(path)]

    def expected(self, film: Film) -> tuple[list[int], list[np.ndarray]]:
        """For each frame of a damaged film, its number in the original; the original's pictures."""
        pictures = whole(self.damaged[film])
        times = np.array(times_of(self.archive.root / film.path))
        known = np.array(list(pictures))
        found = np.searchsorted(known - known[0], times - times[0])
        assert np.array_equal((known - known[0])[found], times - times[0])
        return found.tolist(), list(pictures.values())
