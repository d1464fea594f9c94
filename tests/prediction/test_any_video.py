"""`epic100 predict` on videos outside the sheet: formats, damage, kills and wrong calls."""

import json
import logging
import shutil
import signal
from dataclasses import replace
from itertools import pairwise

import pytest

from epic100.base.errors import EpicError
from epic100.cli.program import main
from epic100.data.official_lists import ClassNames
from epic100.minikitchen import NOUNS, VERBS
from epic100.minikitchen.damage import truncate, zero_block
from epic100.model.model_file import load_model, save_model
from epic100.prediction.clip_outputs import place_clips
from epic100.prediction.timeline import SUFFIXES
from epic100.prediction.timeline_model import ModelInUse
from epic100.prediction.whole_videos import make_timelines
from epic100.settings.prediction import PredictSettings, TimelineSettings
from support.checkout import rows_of
from support.packets import rewrite
from support.this_process import kill_after_a_shard
from support.tricky_videos import audio_only, encode, uneven_times

pytestmark = pytest.mark.slow

NAMES = {"verb": VERBS, "noun": NOUNS}


@pytest.fixture(scope="module")
def named(model, tmp_path_factory):
    """A model that knows the names of its classes."""
    path = tmp_path_factory.mktemp("model") / "model.pth"
    save_model(replace(load_model(model), names=NAMES), path)
    return path


def predict(model, out, *files, **settings):
    """Make the timelines of these files in the folder `out`."""
    settings = TimelineSettings(**{"stride": 1.0, "threshold": 0} | settings)
    make_timelines(
        files,
        ModelInUse(model),
        out,
        settings=settings,
        predict=PredictSettings(workers=0, device="cpu"),
    )


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Runs `epic100 predict` with a model and other words, and returns the exit code."""
    monkeypatch.chdir(tmp_path)
    # The command adds a handler to the root logger. The list is put back after the test.
    monkeypatch.setattr(logging.getLogger(), "handlers", [*logging.getLogger().handlers])

    def run(model, *words):
        start = ["predict", "--model", model, "--device", "cpu", "--workers", 0]
        return main([*map(str, start), *map(str, words)])

    return run


# Each way in which a film is read has a maker of a film of 120 frames.
WAYS = {
    "in place": lambda undamaged, folder: shutil.copyfile(
        undamaged["b_frames"], folder / "film.MP4"
    ),
    "by a copy": lambda undamaged, folder: rewrite(
        undamaged["no_b_frames"], out=folder / "film.flv"
    ),
    "encoded anew": lambda undamaged, folder: encode(folder / "film.flv", codec="flv"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_resumed_run_gives_the_same_files(model, undamaged, way, tmp_path, monkeypatch, caplog):
    # The 11 clips of the video, which lasts 4.004 s, are two shards.
    monkeypatch.setattr("epic100.prediction.shards.SEGMENTS_PER_ITEM", 6)
    killed, film = tmp_path / "killed", WAYS[way](undamaged, tmp_path)

    def make(out):
        predict(model, out, film, stride=0.4, threshold=0.3)
        return [(out / f"film{suffix}").read_bytes() for suffix in SUFFIXES]

    expected = make(tmp_path / "not killed")
    assert "11 clips of 78 frames every 0.4 s; 0 steps are damaged and skipped" in caplog.text
    kill_after_a_shard(make, killed)
    assert not (killed / "b_frames.tsv").exists()
    assert make(killed) == expected
    assert "1 of 2 parts are predicted already" in caplog.text
    assert len(list(killed.iterdir())) == len(SUFFIXES) + 2, "more than page and timeline is left"
    assert make(killed) == expected
    assert "is there already, of this model, video and settings" in caplog.text


@pytest.mark.parametrize(
    "name, first_frame_seconds",
    [
        # The time base of these films is 1/30000 s.
        ("variable_rate", uneven_times(1)[0] / 30000),
        ("late_start", 20000 / 30000),
        ("paused", 0),
    ],
)
def test_a_timeline_covers_any_format_from_frame_zero(
    named, undamaged, tmp_path, name, first_frame_seconds
):
    # The name of a file may have spaces.
    film = tmp_path / f"my {name} film{undamaged[name].suffix}"
    shutil.copyfile(undamaged[name], film)
    predict(named, tmp_path, film, stride=0.5, min_seconds=0, smooth=0)
    found = json.loads(film.with_suffix(".json").read_text())
    rows = rows_of(film.with_suffix(".tsv"))
    # The table has times to 3 digits.
    begins = [float(rows[0]["start"]), found["clips"][0]["start"], found["first_picture"]]
    assert begins == pytest.approx([first_frame_seconds] * 3, abs=0.001)
    _, first_cue, *_ = film.with_suffix(".vtt").read_text().split("00:00:")
    assert float(first_cue[:6]) == pytest.approx(first_frame_seconds, abs=0.0011)
    assert float(rows[-1]["stop"]) == pytest.approx(found["duration"], abs=0.001)
    assert all(row["stop"] == after["start"] for row, after in pairwise(rows))
    # A pair is no more probable than its verb, but both are rounded.
    for row in rows:
        assert 0 < float(row["probability"]) <= float(row["verb_probability"]) + 1e-3 <= 1.001
    for clip in found["clips"]:
        best = [action["probability"] for action in clip["actions"]]
        assert best == sorted(best, reverse=True) and len(best) == 5


def test_a_copied_film_has_an_mp4_s_timeline(model, undamaged, tmp_path):
    films = [shutil.copyfile(undamaged["no_b_frames"], tmp_path / "mp4.MP4")]
    films.append(rewrite(undamaged["no_b_frames"], out=tmp_path / "flv.flv"))
    predict(model, tmp_path, *films, stride=0.5)
    found = [json.loads((tmp_path / f"{film.stem}.json").read_text()) for film in films]
    clips, clips_of_copy = (content["clips"] for content in found)
    assert len(clips) == len(clips_of_copy) == 9
    for clip, other in zip(clips, clips_of_copy, strict=True):
        # FLV counts milliseconds.
        assert clip["start"] == pytest.approx(other["start"], abs=0.001)
        assert clip["actions"] == other["actions"]


@pytest.mark.parametrize(
    "way, error",
    [
        pytest.param("by a copy", KeyboardInterrupt, id="Ctrl-C, by a copy"),
        pytest.param("encoded anew", EpicError, id="an error, encoded anew"),
    ],
)
def test_a_film_s_copy_is_removed(model, undamaged, way, error, tmp_path, monkeypatch, caplog):
    film = WAYS[way](undamaged, tmp_path)

    def fail(video, *arguments, **options):
        assert [copy.name for copy in tmp_path.glob("out/film.work/copy/*")] == ["film.MP4"]
        assert video.row.judged == ("full" if way == "by a copy" else "decoder only")
        raise error("stop")

    monkeypatch.setattr("epic100.prediction.whole_videos.make_timeline", fail)
    with pytest.raises(error, match="stop"):
        predict(model, tmp_path / "out", film)
    assert not list(tmp_path.glob("out/film.work/copy"))
    assert ("encoded anew for reading; 0 frames" in caplog.text) == (way == "encoded anew")


def test_no_clip_is_made_of_damage(model, lab, tmp_path):
    film = tmp_path / "spoilt.mp4"
    shutil.copyfile(lab.videos["P03_07"].path(lab.root), film)
    zero_block(film, 0.5, 8192)
    predict(model, tmp_path, film, stride=1.0, min_seconds=0)
    found = json.loads((tmp_path / "spoilt.json").read_text())
    assert found["damaged"] and found["segments"]
    for clip in found["clips"]:
        is_touched = any(
            start < clip["stop"] and clip["start"] < stop for start, stop in found["damaged"]
        )
        assert clip.get("damaged", False) == is_touched
        assert ("actions" in clip) == (not is_touched)
    rows = rows_of(tmp_path / "spoilt.tsv")
    stretches = [(float(r["start"]), float(r["stop"])) for r in rows if r["what"] == "damaged"]
    assert stretches == [tuple(stretch) for stretch in found["damaged"]]


def test_classes_are_named_by_list_model_or_id(model, named, undamaged, call, tmp_path, caplog):
    for task, names in NAMES.items():
        lines = [f"{number},my {name}" for number, name in names.items()]
        (tmp_path / f"{task}s.csv").write_text("\n".join(["id,key", *lines, ""]))
    lists = ["--class-lists", tmp_path / "verbs.csv", tmp_path / "nouns.csv"]
    options = ["--out", "out", "--threshold", 0, "--min-seconds", 0, undamaged["ten_frames"]]
    # The same timeline is made again for other names.
    for path, more, name_of_verb in (
        (model, [], lambda verb: f"verb {verb}"),
        (named, [], lambda verb: VERBS[verb]),
        (named, lists, lambda verb: f"my {VERBS[verb]}"),
    ):
        caplog.clear()
        assert call(path, *options, *more) == 0
        assert (f"{model}: has no class names" in caplog.text) == (path == model)
        (row,) = rows_of(tmp_path / "out/ten_frames.tsv")
        assert row["verb_name"] == name_of_verb(int(row["verb"]))


def test_a_list_of_too_many_classes_is_rejected(model):
    names = ClassNames({"verb": dict.fromkeys(range(300), "pan"), "noun": NOUNS})
    with pytest.raises(EpicError, match="list of verbs names class 299, .* has 97 verbs; .* first"):
        ModelInUse(model, names)


def cut_file(folder):
    """Write a video without its last 40 %."""
    path = encode(folder / "cut.MP4", 60)
    truncate(path, 0.6)
    return path


def zero_file(folder):
    """Write a video whose coded frames are zeros."""
    path = encode(folder / "zeros.MP4", 60)
    zero_block(path, 0, size=path.stat().st_size)
    return path


def text_file(folder):
    """Write a text under the name of a video."""
    (folder / "text.mp4").write_text("not a film")
    return folder / "text.mp4"


@pytest.mark.parametrize(
    "write, words",
    [
        (
            lambda folder: audio_only(folder / "sound.mp4"),
            "sound.mp4: no video stream in this file",
        ),
        (
            lambda folder: encode(folder / "one.MP4", 1),
            "one.MP4: 1 frame in it; expected a video",
        ),
        (cut_file, "cut.MP4: cannot open: truncated: .* cut or only half copied, copy it again"),
        (zero_file, "zeros.MP4: no frame decodes .*; expected a video that can be decoded"),
        (text_file, "text.mp4: cannot open: not a video file; expected MP4"),
        (lambda folder: folder, "is a folder; expected a video file; name its files"),
        (lambda folder: folder / "gone.mp4", "gone.mp4: no such file; expected a video"),
        (
            lambda folder: encode(folder / "a\nerror: b.mp4", 30),
            r"/a.nerror: b.mp4: has a line break",
        ),
        (
            lambda folder: "https://a.org/v.mp4",
            "https://a.org/v.mp4: is a URL; .* download it first",
        ),
        (
            lambda folder: encode(folder / "a.activitynet.mp4", 1),
            "a.activitynet.mp4: its a.activitynet.json would be a file of another",
        ),
    ],
    ids=[
        "sound alone",
        "one frame",
        "cut file",
        "zeros",
        "text",
        "folder",
        "no such file",
        "line break in the name",
        "URL",
        "name of another file",
    ],
)
def test_no_video_is_an_error_in_one_line(model, tmp_path, write, words):
    file = write(tmp_path)
    with pytest.raises(EpicError, match=words) as caught:
        predict(model, tmp_path / "out", file)
    assert "\n" not in str(caught.value) and not list(tmp_path.glob("out/*.tsv"))


def test_the_page_shows_scores_or_a_reason(model, undamaged, tmp_path, monkeypatch, caplog):
    film = shutil.copyfile(undamaged["ten_frames"], tmp_path / "film.MP4")
    breaking = shutil.copyfile(undamaged["b_frames"], tmp_path / "breaks.mp4")

    def damage_and_place(index, *arguments):
        # Its scan has passed all 120 frames of this film.
        if index.frames == 120:
            zero_block(breaking, 0.5, 8192)
        return place_clips(index, *arguments)

    monkeypatch.setattr("epic100.prediction.whole_videos.place_clips", damage_and_place)
    with pytest.raises(EpicError, match="2 of 3 videos have no timeline: .*text.mp4: cannot"):
        predict(model, tmp_path / "out", text_file(tmp_path), breaking, film)
    assert "scan the video" in caplog.text
    assert [path.name for path in tmp_path.glob("out/*.tsv")] == ["film.tsv"]
    broken, shown, rejected = (
        json.loads(path.read_text().removeprefix("window.epicData = ").removesuffix(";\n"))
        for path in sorted((tmp_path / "out/index_files").glob("*.film.js"))
    )
    content = json.loads((tmp_path / "out/film.json").read_text())
    assert shown["file"] == "../film.MP4" and shown["names"]["verb"][3] == "verb 3"
    assert [row[4] for row in shown["actions"]] == [r["probability"] for r in content["segments"]]
    for row, clip in zip(shown["clips"], content["clips"], strict=True):
        assert row[1] == [[a["verb"], a["noun"], a["probability"]] for a in clip["actions"]]
        assert row[2] == [[verb["verb"], verb["probability"]] for verb in clip["verbs"]]
    assert shown["lacks"][0].startswith("The model has no class names")
    for one in (broken, rejected):
        assert one["clips"] == [] and one["lacks"][0].startswith("No timeline: ")
    assert (tmp_path / "out/index.html").is_file()


@pytest.mark.parametrize(
    "words, message",
    [
        (["v.mp4", "--stride", "0"], "--stride is 0.0; expected greater than or equal to 0.01"),
        (["v.mp4", "--batch-size", "0"], "--batch_size is 0; expected greater than or equal to 1"),
        (["film.mp4", "--out", "film.mp4"], "film.mp4: is a file; expected a folder"),
        (["film.mp4", "other/film.mp4"], "film: two videos have this name"),
        (
            ["v.mp4", "--model", "b.pth"],
            "--model is given 2 times; a timeline takes one model; call",
        ),
    ],
    ids=[
        "stride 0",
        "batch size 0",
        "output is a file",
        "same name twice",
        "two models",
    ],
)
def test_a_wrong_call_is_one_line(model, call, tmp_path, capsys, words, message):
    (tmp_path / "other").mkdir()
    for name in ("film.mp4", "other/film.mp4"):
        (tmp_path / name).touch()
    assert call(model, *words) == 1
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1].startswith(f"error: {message}")
    assert message not in printed.out


def test_ctrl_c_says_how_to_go_on(model, undamaged, call, monkeypatch, capsys):
    monkeypatch.setattr(
        "epic100.prediction.whole_videos._scanned",
        lambda *_: signal.raise_signal(signal.SIGINT),
    )
    assert call(model, undamaged["b_frames"]) == 130
    assert "stopped by Ctrl-C; the same command goes on" in capsys.readouterr().out
