"""A small run to look at in a browser: 30 segments of three videos, made up. No test in here."""

from pathlib import Path

import torch

from epic100.browse.content import gather
from epic100.browse.folder import write_folder
from epic100.scoring.predictions import Predictions, write_predictions
from epic100.video.scan_table import ScanRow, write_scan_table
from epic100.video.sheet import Video

VIDEOS = {
    video.video_id: video
    for video in (
        Video("P01_11", "P01", "val", 60.0, 40.0),
        Video("P02_03", "P02", "val", 50.0, 40.0),
        Video("P18_01", "P18", "val", 30.0, 40.0),
    )
}
PAIRS = [(0, 0, 5), (0, 1, 3), (1, 1, 9), (2, 2, 1)]
ATTACK = "</script><script>document.title = 'it ran'</script><img src=x onerror=\"alert(1)\">"
VERBS, NOUNS = ["take", "put <b>down</b>", ATTACK, "wash"], ["plate", "spoon", "pan"]
REASON = "touches damaged frames 810-900 (broken slices)"
TIMELINE = """\
start\tstop\twhat\tverb\tnoun\tverb_name\tnoun_name\tprobability\tverb_probability\tnoun_probability
1.000\t4.500\taction\t0\t0\ttake\tplate\t0.7500\t0.8000\t0.9000
5.000\t6.000\tdamaged\t\t\t\t\t\t\t
"""


def rows() -> list[tuple[str, str, float, int, int]]:
    """(narration_id, video_id, start in seconds, verb, noun); each lasts four seconds."""
    return [
        (f"{name}_{n}", name, 3.0 * n, *PAIRS[(n + place) % len(PAIRS)][:2])
        for place, name in enumerate(VIDEOS)
        for n in range(10)
    ]


def sources(folder: Path) -> dict:
    """Write the files of the run: every fifth guess is wrong, the last three are dropped."""
    head = "narration_id,video_id,start_timestamp,stop_timestamp,narration,verb_class,noun_class"
    lines = [
        f"{name},{video},00:00:{start:05.2f},00:00:{start + 4:05.2f},saying {name},{verb},{noun}"
        for name, video, start, verb, noun in rows()
    ]
    (folder / "val.csv").write_text("\n".join([head, *lines, ""]))
    kept, dropped = rows()[:-3], rows()[-3:]
    logits = torch.zeros(len(kept), len(PAIRS))
    for place, (_, _, _, verb, noun) in enumerate(kept):
        own = [pair[:2] for pair in PAIRS].index((verb, noun))
        logits[place] = torch.arange(len(PAIRS)) / 10
        logits[place, (own + (place % 5 == 0)) % len(PAIRS)] += 4
    write_predictions(
        Predictions("val", [row[0] for row in kept], logits.log_softmax(1), PAIRS, 4, 3, {}),
        folder / "val.pt",
    )
    lines = [f"{row[0]}\tval\t{REASON}" for row in dropped]
    (folder / "dropped.tsv").write_text("\n".join(["narration_id\tsplit\treason", *lines, ""]))
    write_scan_table(
        [
            ScanRow("P01_11", "ok", 60.0, 2400, pictures=2400),
            ScanRow("P18_01", "damaged", 30.0, 1110, [(810, 900)], "broken slices", pictures=1200),
        ],
        folder / "scan.tsv",
    )
    (folder / "P02_03.tsv").write_text(TIMELINE)
    lists = {"tail_verbs": "verb\n2\n", "tail_nouns": "noun\n2\n",
             "unseen_participants": "participant_id\nP18\n"}  # fmt: skip
    for key, names in (("verb_classes", VERBS), ("noun_classes", NOUNS)):
        quoted = [f'{i},"{name.replace(chr(34), 2 * chr(34))}"' for i, name in enumerate(names)]
        lists[key] = "\n".join(["id,key", *quoted, ""])
    for key, text in lists.items():
        (folder / f"{key}.csv").write_text(text)
    return dict(
        annotations={"val": folder / "val.csv"},
        predictions=folder / "val.pt",
        dropped=folder / "dropped.tsv",
        scans=[folder / "scan.tsv"],
        timelines=[folder / "P02_03.tsv"],
        classes={"verbs": 4, "nouns": 3},
        format="official",
        name_csvs=[],
        lists={key: str(folder / f"{key}.csv") for key in lists},
        reduce=None,
        run="",
    )


def make_browse(folder: Path, clip: bytes, max_mb: int = 500, **changes: object) -> Path:
    """Write the page, with `clip` as the clip of each predicted segment but the first one."""
    for name, video, *_ in rows()[1:-3]:
        path = folder / f"clips/val/{VIDEOS[video].participant_id}/{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip)
    page = folder / "browse/index.html"
    data = gather(VIDEOS, **sources(folder) | changes)
    write_folder(page, data, folder / "clips/val", max_mb)
    return page
