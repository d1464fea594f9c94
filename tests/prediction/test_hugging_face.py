"""Encoders of Hugging Face: what their folders state, the pixels they see, the place of tokens."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open

from epic100.base.errors import EpicError
from epic100.base.foreign_tensors import CACHE
from epic100.clips.dataset import EpicSegmentVideoDataset
from epic100.minikitchen import write_video
from epic100.prediction.encoder import clip_pipeline, pooled_tokens
from epic100.prediction.hugging_face import HuggingFaceFolder, opened, pixels
from epic100.video.sheet import Video
from support.hugging_face import (
    FRAMES,
    KINDS,
    PATCH,
    PICTURES,
    SIZE,
    WIDTH,
    make_encoder,
    processor,
)

PLACES = SIZE // PATCH


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of each kind."""
    home = tmp_path_factory.mktemp("encoders")
    return {kind: make_encoder(home / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """What each pipeline makes of a clip of a video of 640 x 360."""
    folder = tmp_path_factory.mktemp("videos")
    video = Video("P01_01", "P01", "train", 30.0, 2.0)
    write_video(video, video.path(folder), seed=0, size=(640, 360))
    (folder / "list.txt").write_text(f"{video.path()} 3 47 -1 -1 a\n")

    def made(pipeline):
        return EpicSegmentVideoDataset(
            ann_file=str(folder / "list.txt"),
            data_root=str(folder),
            test_mode=True,
            pipeline=pipeline,
        )[0]["inputs"]

    return made


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_those_of_the_models_own_processor(folders, frames, kind):
    """On a video that is shrunk ten times: no two resizing filters differ more."""
    own, _ = opened(folders[kind], kind)
    folder = HuggingFaceFolder(folders[kind])
    pipeline = clip_pipeline(folder)
    (ours,) = pixels(own, frames(pipeline)).values()
    whole = [dict(step) for step in pipeline]
    whole[2] = {"type": "DecodeSegment"}
    pictures = frames(whole)[0].transpose(0, 1)
    squeezes = kind in ("siglip", "dinov3_vit")
    # Their processor squeezes the whole picture into a square. Ours takes its middle.
    if squeezes:
        pictures = pictures[..., 140:500]
    (theirs,) = processor(kind)(list(pictures), return_tensors="pt").values()
    black, white = (
        next(iter(pixels(own, torch.full((1, 3, 1, SIZE, SIZE), value).byte()).values()))
        for value in (0, 255)
    )
    frames_of = (8,) if kind in PICTURES else (1, FRAMES)
    assert ours.shape == theirs.shape == (*frames_of, 3, SIZE, SIZE)
    assert ((ours - theirs) / (white - black)).abs().mean() <= (3 if squeezes else 2) / 255


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_is_at_the_place_that_it_saw(folders, kind, tmp_path, monkeypatch):
    about = HuggingFaceFolder(folders[kind])
    monkeypatch.chdir(tmp_path)
    # One kind is first built in the guard. For the others, the cache says that this was done.
    if kind != "vjepa2":
        (tmp_path / CACHE).mkdir(parents=True)
        (tmp_path / CACHE / about.fingerprint).touch()
    encoder = about("cpu")
    shape = (2, 3, about.clip_len, SIZE, SIZE)
    clips = torch.randint(0, 255, shape, generator=torch.Generator()).byte()
    other = clips.clone()
    other[:, :, -1, :PATCH, -PATCH:] = 255 - other[:, :, -1, :PATCH, -PATCH:]
    with torch.inference_mode():
        moved = (encoder(clips) - encoder(other)).norm(dim=4)[0]
    time = moved.shape[0]
    whole = kind in (*PICTURES, "timesformer")
    assert moved.shape == (about.clip_len // (1 if whole else 2), PLACES, PLACES)
    assert moved.flatten().argmax() == (time - 1) * PLACES**2 + PLACES - 1


def test_a_file_of_an_encoder_of_pictures_may_leave_out_what_transformers_knows(folders, tmp_path):
    """As that of google/siglip-base-patch16-224."""
    folder = shutil.copytree(folders["siglip"], tmp_path / "encoder")
    part = {"model_type": "siglip_vision_model"}
    (folder / "config.json").write_text(json.dumps({"model_type": "siglip", "vision_config": part}))
    keyed("preprocessor_config.json", size={"height": 224, "width": 224})(folder)
    about = HuggingFaceFolder(folder)
    assert (about.size, about.clip_len, about.grid) == (224, 8, (8, 14, 14))


def test_tokens_are_pooled_to_a_grid_in_order_of_time_row_and_column():
    rows = (
        torch.arange(4.0)[:, None, None] * 100 + torch.arange(6.0)[:, None] * 10 + torch.arange(6)
    )
    tokens = rows[None, ..., None].expand(2, 4, 6, 6, 3)
    pooled = pooled_tokens(tokens, (2, 3))
    assert pooled.shape == (2, 18, 3) and pooled.dtype == torch.float16
    wanted = [t + r + c for t in (50, 250) for r in (5, 25, 45) for c in (0.5, 2.5, 4.5)]
    assert pooled[1, :, 2].tolist() == wanted
    assert torch.equal(pooled_tokens(tokens, (9, 9)), tokens.flatten(1, 3).half())
    assert torch.allclose(pooled_tokens(tokens, None), tokens.mean(dim=(1, 2, 3)))
    vectors = torch.randn(2, 5)
    assert pooled_tokens(vectors, None) is vectors
    assert torch.equal(pooled_tokens(vectors, (8, 4)), vectors[:, None].half())


def keyed(name, **changes):
    """Change keys of a JSON file; None removes one."""

    def spoil(folder):
        content = json.loads((folder / name).read_text()) | changes
        kept = {key: value for key, value in content.items() if value is not None}
        (folder / name).write_text(json.dumps(kept))

    return spoil


def shards_elsewhere(folder):
    shutil.copy(folder / "model.safetensors", folder / "other.safetensors")
    (folder / "model.safetensors").rename(folder.parent / "stolen.safetensors")
    with safe_open(folder / "other.safetensors", "pt") as file:
        places = dict.fromkeys(file.keys(), "../stolen.safetensors")
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def device(name):
    """Put a link to a device that does not end in the place of a file."""

    def spoil(folder):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("/dev/zero")

    return spoil


PROCESSOR, IMAGES = "video_preprocessor_config.json", "preprocessor_config.json"


@pytest.mark.parametrize(
    "kind, spoil, words",
    [
        (
            "videomae",
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            "has no .*safetensors, and no other form of weights is read",
        ),
        (
            "videomae",
            keyed("config.json", auto_map={"AutoModel": "modeling_own.Own"}),
            "its auto_map is ",
        ),
        (
            "videomae",
            keyed("config.json", attn_implementation="kernels-community/x"),
            "its attn_impl.* is ",
        ),
        (
            "videomae",
            keyed("config.json", model_type="llama"),
            "its model_type is llama: Input should",
        ),
        ("videomae", keyed("config.json", num_frames=None), "config.json: its num_frames is "),
        (
            "videomae",
            keyed(PROCESSOR, crop_size=24),
            f"scales to 36 and crops to 24 pixels, .* sees {SIZE}",
        ),
        ("videomae", keyed(PROCESSOR, size=24), f"scales to 24 and crops to {SIZE} pixels"),
        ("videomae", keyed(PROCESSOR, do_center_crop=False), "its do_center_crop is False"),
        ("videomae", lambda folder: (folder / PROCESSOR).unlink(), f"{PROCESSOR}: cannot be read"),
        (
            "videomae",
            lambda folder: (folder / "config.json").write_text("{"),
            "config.json: its .*JSON",
        ),
        (
            "videomae",
            shards_elsewhere,
            "cannot be built .*names '../stolen.safetensors', which is not beside it",
        ),
        ("videomae", device("config.json"), "config.json: cannot be read .*a pipe or a device"),
        ("videomae", device("model.safetensors"), "model.safetensors: a pipe or a device"),
        (
            "videomae",
            device("model.safetensors.index.json"),
            "cannot be built .*a pipe or a device",
        ),
        ("videomae", keyed("config.json", hidden_size=64), "cannot be built .*mismatch"),
        (
            "videomae",
            keyed("config.json", num_hidden_layers=3),
            "its files lack 15 weights, such as encoder",
        ),
        (
            "clip",
            keyed("config.json", model_type="clip_text_model"),
            "its model_type is clip_text_mod",
        ),
        ("clip", keyed(IMAGES, size=384, crop_size=384), f"crops to 384 pixels, .* sees {SIZE}; "),
        (
            "siglip",
            keyed(IMAGES, size=384),
            f"crops to 384 pixels, .* sees {SIZE}; expected one size",
        ),
        (
            "dinov2",
            keyed(IMAGES, size=384, crop_size=383),
            f"crops to 383 pixels, .* sees {2 * SIZE}",
        ),
        ("dinov3_vit", keyed("config.json", patch_size=16), "cannot be built .*mismatch"),
        ("siglip", keyed("config.json", vision_config=3), "crops to 32 pixels, .* sees 224"),
        ("clip", lambda folder: (folder / "config.json").write_text("[]"), "its content is "),
    ],
)
def test_a_folder_that_is_no_whole_model_is_one_error(folders, tmp_path, kind, spoil, words):
    folder = shutil.copytree(folders[kind], tmp_path / "encoder")
    spoil(folder)
    with pytest.raises(EpicError, match=words) as found:
        HuggingFaceFolder(folder).check()
    assert str(found.value).startswith(str(folder)) and "\n" not in str(found.value)


def test_the_fingerprint_is_of_weights_config_and_processor(folders, tmp_path):
    folder = shutil.copytree(folders["vjepa2"], tmp_path / "encoder")
    seen = {HuggingFaceFolder(folder).fingerprint}
    (folder / "README.md").write_text("of no matter")
    assert HuggingFaceFolder(folder).fingerprint in seen
    assert HuggingFaceFolder(folder).license == "not stated in its README.md"
    assert HuggingFaceFolder(folders["vjepa2"]).license == "apache-2.0"
    lines = ["---", *["x: y"] * 200_000, "license: mit", "---"]
    for text, words in (
        ("\n".join(lines), "mit"),
        # A regular expression once took minutes to search this text.
        ("\n".join(lines[:-1]), "not stated in its README.md"),
        ("---\nlicense: <script>alert(1)</script>\n---\n", "not stated in its README.md"),
    ):
        (folder / "README.md").write_text(text)
        assert HuggingFaceFolder(folder).license == words
    make_encoder(folder, "vjepa2", seed=1)
    seen.add(HuggingFaceFolder(folder).fingerprint)
    keyed(PROCESSOR, image_std=[0.2, 0.2, 0.2])(folder)
    seen.add(HuggingFaceFolder(folder).fingerprint)
    assert len(seen) == 3


def test_dinov2_and_3_see_the_size_of_their_processor(folders, tmp_path):
    """Their places are interpolated: DINOv2's config.json says 518, its processor 224."""
    folder = shutil.copytree(folders["dinov2"], tmp_path / "encoder")
    keyed(IMAGES, size=56, crop_size=48)(folder)
    about = HuggingFaceFolder(folder)
    assert (about.size, about.short_side, about.grid) == (48, 56, (8, 6, 6))
    reader, model = opened(folder, "dinov2")
    with torch.inference_mode():
        found = about._tokens(reader, model, torch.zeros(1, 3, 8, 48, 48).byte())
    assert found.shape == (1, 8, 6, 6, WIDTH)
