"""Rule browse: segments, predictions, clips and timelines of one or two runs -> a folder."""

import json
import os
from pathlib import Path

from epic100.base.log import rule_log
from epic100.browse.content import gather
from epic100.browse.folder import write_folder
from epic100.browse.guesses import ShownRun
from epic100.features.map import segment_map
from epic100.report.template import links
from epic100.settings import Settings
from epic100.video.sheet import find_files, read_sheet

with rule_log(snakemake.log[0]):
    given, params = snakemake.input, snakemake.params
    settings = Settings.part(params.settings)
    videos = {video.video_id: video for video in read_sheet(given.sheet)}
    page, runs, pages = snakemake.output.html, [], {}
    for name, home, own, predictions in zip(
        params.names, params.homes, params.own, given.predictions, strict=True
    ):
        # Another run is shown with the figures that it has.
        figures = {} if own else json.loads(Path(home, "metrics.json").read_text("utf-8"))
        reduce = settings.export.reduce if own else figures["reduce"]
        timelines = [path for path in given.timelines if Path(path).parts[:-2] == Path(home).parts]
        runs.append(ShownRun(name, predictions, reduce, timelines))
        of = f" of {name}" if len(params.names) > 1 else ""
        pages |= {
            f"report{of}": Path(home, "report.html"),
            f"model card{of}": Path(home, "model_card.md"),
        }
    data = gather(
        videos,
        annotations=dict(zip(params.splits, given.annotations, strict=True)),
        runs=runs,
        dropped=given.dropped,
        scans=given.scans,
        name_csvs=given.csvs,
        lists={key: given[key] for key in params.lists},
        **settings.reading,
    )
    segments, shown = data["segments"], data["videos"]
    names = [shown["id"][place] for place in segments["video"]]
    for run, folder in zip(data["runs"], params.features, strict=True):
        tables = [path for path in given.features if Path(path).parent == Path(folder)]
        run["map"] = segment_map(tables, names, segments["start"], segments["stop"])
    # The page plays the moment in the whole video where it finds the file.
    listed = [videos[name].path() for name in shown["id"]]
    files = find_files(listed, params.place)
    near = os.path.relpath
    shown["file"] = [
        Path(near(files[name], Path(page).parent)).as_posix() if files[name].is_file() else None
        for name in listed
    ]
    data["pages"] = links(page, pages | {"all runs": "results/compare.html"})
    write_folder(page, data, os.path.dirname(given.clips), settings.browse.max_mb)
