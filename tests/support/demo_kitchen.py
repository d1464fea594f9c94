"""The demo's sheet, and the names of the CSVs that are made of it. No test in here."""

from epic100.video.sheet import read_sheet
from support.checkout import ROOT

SHEET = read_sheet(ROOT / "config/demo_videos.tsv")
VIDEOS = {video.video_id: video for video in SHEET}
FILES = {
    "train": "EPIC_100_train.csv",
    "val": "EPIC_100_validation.csv",
    "test": "EPIC_100_test_timestamps.csv",
}
