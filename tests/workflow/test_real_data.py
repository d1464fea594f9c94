"""What docs/data.md shows of a part of an archive is typed here; the screen is the same."""

import re
import shlex

import pytest

from support.checkout import ROOT, epic100, said

pytestmark = pytest.mark.slow


def shape(line):
    """A line without the words and numbers that differ from run to run."""
    if line.startswith("longest: "):
        return line.split()[0]
    return re.sub(r"[\d.:]+", "0", line)


def test_the_walk_with_a_part_of_the_archive_is_as_the_page_shows_it(archive, tmp_path):
    page = (ROOT / "docs/data.md").read_text()
    part = page[page.index("## A part of the archive") : page.index("## To fetch the videos")]
    lab = tmp_path / "lab"
    for video in (archive / "archive").rglob("*.MP4"):
        place = lab / "EPIC-KITCHENS" / video.parent.name / "videos" / video.name
        place.parent.mkdir(parents=True, exist_ok=True)
        video.rename(place)
    (lab / "EPIC-KITCHENS/P02/videos/P02_101.MP4").unlink()
    (archive / "csv").rename(lab / "annotations")
    (archive / "sheet.tsv").rename(lab / "sheet.tsv")
    (lab / "mine.yaml").write_text(re.search(r"```yaml\n(.*?)```", part, re.DOTALL)[1])
    typed = "".join(re.findall(r"```console\n(.*?)```", part, re.DOTALL)).split("$ epic100 ")[1:]
    assert len(typed) == 4
    for command, *shown in (each.splitlines() for each in typed):
        screen = said(epic100(*shlex.split(command), cwd=lab)).splitlines()
        here = {shape(line) for line in screen}
        missing = {line for line in shown if shape(line) not in here} - {"..."}
        assert not missing, "\n".join(screen)
    assert (lab / "results/submission.pt").is_file()
    dropped = (lab / "results/clean/dropped.tsv").read_text().splitlines()[1:]
    assert len(dropped) == 3 and all(line.endswith("video missing") for line in dropped)
