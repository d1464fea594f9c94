"""`epic100 predict` on files that the workflow did not make: formats, damage, kills, mistakes."""

import json
import logging
import shutil
from dataclasses import replace

import pytest

from epic100.base.errors import EpicError
from epic100.cli.program import main
from epic100.minikitchen import NOUNS, VERBS
from epic100.minikitchen.damage import truncate, zero_block
from epic100.model.model_file import load_model, save_model
from epic100.segments.official_lists import ClassNames
from epic100.settings import PredictSettings, TimelineSettings
from epic100.timeline.clips import place_clips
from epic100.timeline.content import SUFFIXES, beside
from epic100.timeline.model import ModelInUse
from epic100.timeline.run import make_timelines
from support.dying import kill_after_a_shard
from support.tables import rows_of
from support.tricky_videos import audio_only, encode, uneven_times

pytestmark = pytest.mark.slow

NAMES = {"verb": VERBS, "noun": NOUNS}
WITHOUT_LOADERS = PredictSettings(workers=0, device="cpu")


@pytest.fixture(scope="module")
def named(model, tmp_path_factory):
    """A model that knows the names of its classes."""
    path = tmp_path_factory.mktemp("model") / "model.pth"
    save_model(replace(load_model(model), names=NAMES), path)
    return path


def predict(model, out, *files, **settings):
    settings = TimelineSettings(**{"stride": 1.0, "threshold": 0} | settings)
    make_timelines(files, ModelInUse(model), out, settings=settings, predict=WITHOUT_LOADERS)


@pytest.fixture
def call(tmp_path, monkeypatch):
    """`epic100 predict` in `tmp_path`, by its words; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger(), "handlers", [*logging.getLogger().handlers])

    def run(model, *words):
        start = ["predict", "--model", model, "--device", "cpu", "--workers", 0]
        return main([*map(str, start), *map(str, words)])

    return run


def test_a_killed_run_goes_on_and_ends_in_the_same_files(
    model, sound, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr("epic100.timeline.clips.CLIPS_PER_SHARD", 6)
    straight, killed = tmp_path / "straight", tmp_path / "killed"

    def whole(out):
        # The video lasts 4.004 s.
        predict(model, out, sound["b_frames"], stride=0.4, threshold=0.3)
        return [(out / f"b_frames{suffix}").read_bytes() for suffix in SUFFIXES]

    wanted = whole(straight)
    assert "11 clips of 78 frames every 0.4 s; 0 steps are damaged and skipped" in caplog.text
    kill_after_a_shard(whole, killed)
    assert not (killed / "b_frames.tsv").exists()
    assert whole(killed) == wanted
    assert "1 of 2 parts are predicted already" in caplog.text
    # No other file is left.
    assert len(list(killed.iterdir())) == len(SUFFIXES)
    assert whole(killed) == wanted
    assert "is there already, of this model, video and settings" in caplog.text


@pytest.mark.parametrize("name", ["variable_rate", "paused", "matroska", "late_start"])
def test_any_format_rate_and_length_gives_actions_over_the_whole_video(
    named, sound, tmp_path, name
):
    # The names of people's files have spaces.
    film = tmp_path / f"my {name} film{sound[name].suffix}"
    shutil.copyfile(sound[name], film)
    predict(named, tmp_path / "out", film, stride=0.5, min_seconds=0, smooth=0)
    found = json.loads((tmp_path / f"out/{film.stem}.json").read_text())
    rows = rows_of(tmp_path / f"out/{film.stem}.tsv")
    late = {"late_start": 20000, "variable_rate": uneven_times(1)[0]}.get(name, 0) / 30000
    begins = [float(rows[0]["start"]), found["clips"][0]["start"], found["first_picture"]]
    assert begins == pytest.approx([late] * 3, abs=0.001)
    captions = (tmp_path / f"out/{film.stem}.vtt").read_text()
    assert float(captions.split("00:00:")[1][:6]) == pytest.approx(late, abs=0.0011)
    assert float(rows[-1]["stop"]) == pytest.approx(found["duration"], abs=0.001)
    assert all(a["stop"] == b["start"] for a, b in zip(rows, rows[1:], strict=False))
    for row in rows:
        assert row["verb_name"] == VERBS[int(row["verb"])]
        assert row["noun_name"] == NOUNS[int(row["noun"])]
        assert 0 < float(row["probability"]) <= float(row["verb_probability"]) + 1e-3 <= 1.001
    for clip in found["clips"]:
        best = [action["probability"] for action in clip["actions"]]
        assert best == sorted(best, reverse=True) and len(best) == 5
        assert sum(verb["probability"] for verb in clip["verbs"]) == pytest.approx(1, abs=0.01)


def test_damage_is_marked_and_no_clip_is_made_of_it(model, lab, tmp_path):
    film = tmp_path / "spoilt.mp4"
    shutil.copyfile(lab.videos["P03_07"].path(lab.root), film)
    zero_block(film, 0.5, 8192)
    predict(model, tmp_path, film, stride=1.0, min_seconds=0)
    found = json.loads((tmp_path / "spoilt.json").read_text())
    assert found["damaged"] and found["segments"]
    for clip in found["clips"]:
        touched = any(a < clip["stop"] and clip["start"] < b for a, b in found["damaged"])
        assert clip.get("damaged", False) == touched and ("actions" in clip) == (not touched)
    rows = rows_of(tmp_path / "spoilt.tsv")
    stretches = [(float(r["start"]), float(r["stop"])) for r in rows if r["what"] == "damaged"]
    assert stretches == [tuple(stretch) for stretch in found["damaged"]]
    assert "(damaged)" in beside(tmp_path / "spoilt.tsv", ".vtt").read_text()


def test_classes_have_the_names_of_lists_or_of_the_model_or_their_ids(
    model, named, sound, call, tmp_path, caplog
):
    for task, names in NAMES.items():
        lines = [f"{number},my {name}" for number, name in names.items()]
        (tmp_path / f"{task}s.csv").write_text("\n".join(["id,key", *lines, ""]))
    lists = ["--class-lists", tmp_path / "verbs.csv", tmp_path / "nouns.csv"]
    for path, more, name_of in (
        (model, [], lambda verb: f"verb {verb}"),
        (named, [], lambda verb: VERBS[verb]),
        # With other names it is made again.
        (model, lists, lambda verb: f"my {VERBS[verb]}"),
        (named, lists, lambda verb: f"my {VERBS[verb]}"),
    ):
        caplog.clear()
        words = ["--out", "out", "--threshold", 0, "--min-seconds", 0, sound["ten_pictures"]]
        assert call(path, *words, *more) == 0
        assert (f"{model}: has no class names" in caplog.text) == (path == model and not more)
        (row,) = rows_of(tmp_path / "out/ten_pictures.tsv")
        assert row["verb_name"] == name_of(int(row["verb"]))
    of_others = ClassNames({"verb": dict.fromkeys(range(300), "pan"), "noun": NOUNS})
    with pytest.raises(EpicError, match="list of verbs names class 299, .* has 97 verbs; .* first"):
        ModelInUse(model, of_others)


def cut(folder):
    path = encode(folder / "cut.MP4", 60)
    truncate(path, 0.6)
    return path


def a_text(folder):
    (folder / "text.mp4").write_text("not a film")
    return folder / "text.mp4"


@pytest.mark.parametrize(
    "made, words",
    [
        (
            lambda folder: audio_only(folder / "sound.mp4"),
            "sound.mp4: no video stream in this file",
        ),
        (
            lambda folder: encode(folder / "one.MP4", 1),
            "one.MP4: 1 picture in it; expected a video",
        ),
        (cut, "cut.MP4: cannot open: truncated: .* cut or only half copied, copy it again"),
        (a_text, "text.mp4: cannot open: not a video file; expected MP4"),
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
    ],
)
def test_what_is_no_video_is_one_message(model, tmp_path, made, words):
    with pytest.raises(EpicError, match=words) as caught:
        predict(model, tmp_path / "out", made(tmp_path))
    assert "\n" not in str(caught.value) and not list(tmp_path.glob("out/*.tsv"))


def test_a_file_that_is_none_or_breaks_after_its_scan_does_not_keep_the_others_from_theirs(
    model, sound, tmp_path, monkeypatch, caplog
):
    film = shutil.copyfile(sound["b_frames"], tmp_path / "breaks.mp4")
    text, one = a_text(tmp_path), encode(tmp_path / "one.MP4", 1)

    def place_and_break(index, *rest):
        if index.frames == 120:
            zero_block(film, 0.5, 8192)
        return place_clips(index, *rest)

    monkeypatch.setattr("epic100.timeline.run.place_clips", place_and_break)
    with pytest.raises(EpicError, match="3 of 4 videos have no timeline: .*text.mp4: cannot"):
        predict(model, tmp_path / "out", text, one, film, sound["ten_pictures"])
    assert "one.MP4: 1 picture in it" in caplog.text and "scan the video" in caplog.text
    assert [path.name for path in tmp_path.glob("out/*.tsv")] == ["ten_pictures.tsv"]


@pytest.mark.parametrize(
    "words, message",
    [
        (["v.mp4", "--stride", "0"], "--stride is 0.0; expected greater than or equal to 0.01"),
        (["v.mp4", "--batch-size", "0"], "--batch_size is 0; expected greater than or equal to 1"),
        (["v.mp4"], "v.mp4: no such file; expected a video"),
        (["film.mp4", "--out", "film.mp4"], "film.mp4: is a file; expected a folder"),
        (
            ["a.activitynet.mp4"],
            "a.activitynet.mp4: its a.activitynet.json would be a file of another",
        ),
        (["film.mp4", "other/film.mp4"], "film: two videos have this name"),
        (
            ["v.mp4", "--model", "b.pth"],
            "--model is given 2 times; a timeline takes one model; call",
        ),
    ],
)
def test_a_mistaken_call_is_one_line(model, call, tmp_path, capsys, words, message):
    (tmp_path / "other").mkdir()
    for name in ("film.mp4", "other/film.mp4", "a.activitynet.mp4"):
        (tmp_path / name).touch()
    assert call(model, *words) == 1
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].startswith(f"error: {message}")
    assert message not in said.out
