"""A small made-up run to look at in a browser: 30 segments of three videos. No test is here."""

from collections.abc import Callable
from pathlib import Path

import torch

from epic100.base.text_table import write_table
from epic100.pages.browse import write_folder
from epic100.pages.browse_clips import COLUMNS
from epic100.pages.browse_data import ShownRun, gather
from epic100.scoring.predictions import Predictions, write_predictions
from epic100.video.scan_table import ScanRow, write_scan_table
from epic100.video.sheet import Video

VIDEOS = {
    video.video_id: video
    for video in (
        Video("P01_11", "P01", "val", fps=60.0, duration=40.0),
        Video("P02_03", "P02", "val", fps=50.0, duration=40.0),
        Video("P18_01", "P18", "val", fps=30.0, duration=40.0),
    )
}
# Pairs are (verb, noun, number of segments of train), as in the pair table.
PAIRS = [(0, 0, 5), (0, 1, 3), (1, 1, 9), (2, 2, 1)]
# A class has this name, which must be shown as a text and never run.
ATTACK = "</script><script>document.title = 'it ran'</script><img src=x onerror=\"alert(1)\">"
VERBS = ["take", "put <b>down</b>", ATTACK, "wash"]
NOUNS = ["plate", "spoon", "pan"]
REASON = "touches damaged frames 811-901 (broken slices)"
TIMELINE = """\
start\tstop\twhat\tverb\tnoun\tverb_name\tnoun_name\tprobability\tverb_probability\tnoun_probability
1.000\t4.500\taction\t0\t0\ttake\tplate\t0.7500\t0.8000\t0.9000
5.000\t6.000\tdamaged\t\t\t\t\t\t\t
"""


def rows() -> list[tuple[str, str, float, int, int]]:
    """Make the segments: tuples of narration_id, video_id, start in seconds, verb and noun.

    Each video has ten segments of four seconds, which begin three seconds apart.
    """
    verbs_and_nouns = [(verb, noun) for verb, noun, _ in PAIRS]
    return [
        (f"{name}_{n}", name, 3.0 * n, *verbs_and_nouns[(n + video_number) % len(PAIRS)])
        for video_number, name in enumerate(VIDEOS)
        for n in range(10)
    ]


def sources(folder: Path) -> dict:
    """Write the files of a run, and return the arguments of `gather`.

    Every fifth prediction is wrong, and the last three segments are dropped.
    """
    head = "narration_id,video_id,start_timestamp,stop_timestamp,narration,verb_class,noun_class"
    lines = [
        f"{name},{video},00:00:{start:05.2f},00:00:{start + 4:05.2f},saying {name},{verb},{noun}"
        for name, video, start, verb, noun in rows()
    ]
    (folder / "val.csv").write_text("\n".join([head, *lines, ""]))
    kept, dropped = rows()[:-3], rows()[-3:]
    guess(kept, folder / "val.pt", lambda place: place % 5 == 0)
    lines = [f"{row[0]}\tval\t{REASON}" for row in dropped]
    (folder / "dropped.tsv").write_text("\n".join(["narration_id\tsplit\treason", *lines, ""]))
    write_scan_table(
        [
            ScanRow("P01_11", "ok", 60.0, 2400, pictures=2400),
            ScanRow("P18_01", "damaged", 30.0, 1110, [(811, 901)], "broken slices", pictures=1200),
        ],
        folder / "scan.tsv",
    )
    (folder / "P02_03.tsv").write_text(TIMELINE)
    lists = {
        "tail_verbs": "verb\n2\n",
        "tail_nouns": "noun\n2\n",
        "unseen_participants": "participant_id\nP18\n",
    }
    for key, names in (("verb_classes", VERBS), ("noun_classes", NOUNS)):
        quoted = [f'{i},"{name.replace(chr(34), 2 * chr(34))}"' for i, name in enumerate(names)]
        lists[key] = "\n".join(["id,key", *quoted, ""])
    for key, text in lists.items():
        (folder / f"{key}.csv").write_text(text)
    return dict(
        page=folder / "browse/index.html",
        root=folder,
        annotations={"val": folder / "val.csv"},
        runs=[ShownRun("", folder / "val.pt", timelines=[folder / "P02_03.tsv"])],
        dropped=folder / "dropped.tsv",
        scans=[folder / "scan.tsv"],
        call="epic100 run --directory demo",
        classes={"verbs": 4, "nouns": 3},
        name_csvs=[],
        lists={key: str(folder / f"{key}.csv") for key in lists},
    )


def guess(kept: list, path: Path, is_wrong: Callable[[int], bool]) -> Path:
    """Write predictions of these segments; a wrong one is the pair after the true pair."""
    logits = torch.zeros(len(kept), len(PAIRS))
    verbs_and_nouns = [(verb, noun) for verb, noun, _ in PAIRS]
    for place, (_, _, _, verb, noun) in enumerate(kept):
        guessed = verbs_and_nouns.index((verb, noun))
        if is_wrong(place):
            guessed = (guessed + 1) % len(PAIRS)
        logits[place] = torch.arange(len(PAIRS)) / 10
        logits[place, guessed] += 4
    write_predictions(
        Predictions("val", [row[0] for row in kept], logits.log_softmax(1), PAIRS, 4, 3, {}), path
    )
    return path


def two_runs(folder: Path) -> list[ShownRun]:
    """Make the run of `sources`, with its timeline, and a run with every third guess wrong."""
    first = ShownRun("first", folder / "val.pt", timelines=[folder / "P02_03.tsv"])
    second = guess(rows()[:-3], folder / "second.pt", lambda place: place % 3 == 0)
    return [first, ShownRun("second", second)]


def make_browse(folder: Path, clip: bytes, max_mb: int = 500, two: bool = False) -> Path:
    """Write the page of one run or two; all predicted segments but the first have a clip."""
    (folder / "made/all").mkdir(parents=True, exist_ok=True)
    lines = []
    for name, *_ in rows()[1:-3]:
        (folder / f"made/all/{name}.v0.mp4").write_bytes(clip)
        lines.append((name, f"{name}.v0.mp4", ""))
    write_table(folder / "made/all.tsv", COLUMNS, lines)
    (folder / "P01_11.MP4").write_bytes(clip)
    arguments = sources(folder)
    if two:
        arguments["runs"] = two_runs(folder)
    data = gather(VIDEOS, **arguments)
    write_folder(arguments["page"], data, [folder / "made/all.tsv"], max_mb)
    return arguments["page"]
