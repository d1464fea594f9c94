"""Folders of Hugging Face's encoders: their files, their pixels, and what is rejected."""

import json
import shutil
from functools import partial

import pytest
import torch
from safetensors import safe_open

from epic100.base.errors import EpicError
from epic100.clips.dataset import EpicSegmentVideoDataset
from epic100.minikitchen import write_video
from epic100.model.hugging_face import HuggingFaceBackbone, backbone_config
from epic100.model.hugging_face_folder import IMAGE_MODELS, HuggingFaceFolder, pixels
from epic100.prediction.encoder import clip_pipeline
from epic100.video.sheet import Video
from support.hugging_face import (
    ENCODER_TYPES,
    FRAMES,
    IMAGE_ENCODERS,
    SIZE,
    WIDTH,
    make_encoder,
    processor,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clip_of(tmp_path_factory):
    """A function that runs a pipeline on a segment of a video of 640 x 360 pixels."""
    folder = tmp_path_factory.mktemp("videos")
    video = Video("P01_01", "P01", "train", fps=30.0, duration=2.0)
    write_video(video, video.path(folder), seed=0, size=(640, 360))
    (folder / "list.txt").write_text(f"{video.path()} 3 47 -1 -1 a\n")

    def clip(pipeline):
        return EpicSegmentVideoDataset(
            ann_file=str(folder / "list.txt"),
            data_root=str(folder),
            test_mode=True,
            pipeline=pipeline,
        )[0]["inputs"]

    return clip


@pytest.mark.parametrize("model_type", IMAGE_MODELS)
def test_missing_sizes_are_transformers_defaults(model_type):
    """A folder that transformers writes has only what differs from its defaults."""
    # The import takes half a second, which the collection of tests does not wait for.
    from transformers import AutoConfig

    config = AutoConfig.for_model(model_type)
    # An encoder of images and texts has one config for each.
    config = getattr(config, "vision_config", config)
    assert IMAGE_MODELS[model_type][1:] == (config.image_size, config.patch_size)


@pytest.mark.parametrize("encoder_type", ENCODER_TYPES)
def test_pixels_are_nearly_those_of_transformers_processor(folders, clip_of, encoder_type):
    """The video is shrunk ten times, where resizing filters differ most."""
    own_processor, _ = HuggingFaceFolder(folders[encoder_type]).open()

    def pixels_of(clip):
        (values,) = pixels(own_processor, clip).values()
        return values

    pipeline = clip_pipeline(HuggingFaceFolder(folders[encoder_type]))
    ours = pixels_of(clip_of(pipeline))
    complete_frames = [*pipeline[:2], {"type": "DecodeSegment"}, *pipeline[3:]]
    frames = clip_of(complete_frames)[0].transpose(0, 1)
    is_squeezed = encoder_type in ("siglip", "dinov3_vit")
    # Their processor squeezes the complete frame into a square, and ours takes the middle square.
    if is_squeezed:
        frames = frames[..., 140:500]
    (theirs,) = processor(encoder_type)(list(frames), return_tensors="pt").values()
    frames = (8,) if encoder_type in IMAGE_ENCODERS else (1, FRAMES)
    assert ours.shape == theirs.shape == (*frames, 3, SIZE, SIZE)
    black, white = (
        pixels_of(torch.full((1, 3, 1, SIZE, SIZE), value, dtype=torch.uint8)) for value in (0, 255)
    )
    # The mean difference is at most 2 or 3 of 255 grey levels.
    assert ((ours - theirs) / (white - black)).abs().mean() <= (3 if is_squeezed else 2) / 255


def test_missing_image_keys_have_transformers_defaults(folders, tmp_path):
    folder = shutil.copytree(folders["siglip"], tmp_path / "encoder")
    # The files of google/siglip-base-patch16-224 are like these.
    part = {"model_type": "siglip_vision_model"}
    (folder / "config.json").write_text(json.dumps({"model_type": "siglip", "vision_config": part}))
    change_keys(folder, IMAGE_PROCESSOR, size={"height": 224, "width": 224})
    about = HuggingFaceFolder(folder)
    assert (about.size, about.clip_len) == (224, 8)


def change_keys(folder, name, **changes):
    """Change keys of a JSON file of a folder; None removes one."""
    content = json.loads((folder / name).read_text()) | changes
    kept = {key: value for key, value in content.items() if value is not None}
    (folder / name).write_text(json.dumps(kept))


def name_shard_outside(folder):
    """Let the index of shards name a file outside the folder, which exists."""
    shutil.copy(folder / "model.safetensors", folder / "other.safetensors")
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    with safe_open(folder / "other.safetensors", "pt") as file:
        places = dict.fromkeys(file.keys(), "../outside.safetensors")
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def link_to_device(folder, name):
    """Put a link to a device, whose content never ends, in the place of a file."""
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("/dev/zero")


CONFIG, VIDEO_PROCESSOR, IMAGE_PROCESSOR = (
    "config.json",
    "video_preprocessor_config.json",
    "preprocessor_config.json",
)


def changed(name, **changes):
    return partial(change_keys, name=name, **changes)


@pytest.mark.parametrize(
    "encoder_type, change, words",
    [
        pytest.param(
            "videomae",
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            "has no .*safetensors, and no other form of weights is read",
            id="weights as pickle",
        ),
        pytest.param(
            "videomae",
            changed(CONFIG, auto_map={"AutoModel": "modeling_own.Own"}),
            "its auto_map is ",
            id="its own code",
        ),
        pytest.param(
            "videomae",
            changed(CONFIG, attn_implementation="kernels-community/x"),
            "its attn_impl.* is ",
            id="kernels from elsewhere",
        ),
        pytest.param(
            "videomae",
            changed(CONFIG, model_type="llama"),
            "its model_type is llama: Input should",
            id="model of texts",
        ),
        pytest.param(
            "videomae",
            changed(CONFIG, num_frames=None),
            "config.json: its num_frames is ",
            id="no number of frames",
        ),
        pytest.param(
            "videomae",
            changed(VIDEO_PROCESSOR, crop_size=24),
            f"scales to 36 and crops to 24 pixels, .* sees {SIZE}",
            id="small crop of the processor",
        ),
        pytest.param(
            "videomae",
            changed(VIDEO_PROCESSOR, size=24),
            f"scales to 24 and crops to {SIZE} pixels",
            id="crop larger than the frame",
        ),
        pytest.param(
            "videomae",
            changed(VIDEO_PROCESSOR, do_center_crop=False),
            "its do_center_crop is False",
            id="no crop",
        ),
        pytest.param(
            "videomae",
            lambda folder: (folder / VIDEO_PROCESSOR).unlink(),
            f"{VIDEO_PROCESSOR}: cannot be read",
            id="no file of the processor",
        ),
        pytest.param(
            "videomae",
            lambda folder: (folder / "config.json").write_text("{"),
            "config.json: its .*JSON",
            id="no JSON",
        ),
        pytest.param(
            "videomae",
            name_shard_outside,
            "cannot be built .*names '../outside.safetensors', which is not in this folder",
            id="shard outside the folder",
        ),
        pytest.param(
            "videomae",
            partial(link_to_device, name=CONFIG),
            "config.json: cannot be read .*a pipe or a device",
            id="device as config",
        ),
        pytest.param(
            "videomae",
            partial(link_to_device, name="model.safetensors"),
            "model.safetensors: a pipe or a device",
            id="device as weights",
        ),
        pytest.param(
            "videomae",
            partial(link_to_device, name="model.safetensors.index.json"),
            "index.json: a pipe or a device; expected a file",
            id="device as index of shards",
        ),
        pytest.param(
            "videomae",
            changed(CONFIG, hidden_size=64),
            "cannot be built .*mismatch",
            id="other width",
        ),
        pytest.param(
            "videomae",
            changed(CONFIG, num_hidden_layers=3),
            "its files lack 15 weights, such as encoder",
            id="missing weights",
        ),
        pytest.param(
            "clip",
            changed(CONFIG, model_type="clip_text_model"),
            "its model_type is clip_text_mod",
            id="tower of texts",
        ),
        pytest.param(
            "clip",
            changed(IMAGE_PROCESSOR, size=384, crop_size=384),
            f"crops to 384 pixels, .* sees {SIZE}; ",
            id="large frames for CLIP",
        ),
        pytest.param(
            "siglip",
            changed(IMAGE_PROCESSOR, size=384),
            f"crops to 384 pixels, .* sees {SIZE}; expected one size",
            id="large frames for SigLIP",
        ),
        pytest.param(
            "dinov2",
            changed(IMAGE_PROCESSOR, size=384, crop_size=383),
            f"crops to 383 pixels, .* sees {2 * SIZE}",
            id="crop that is no multiple of the patch",
        ),
        pytest.param(
            "dinov3_vit",
            changed(CONFIG, patch_size=16),
            "cannot be built .*mismatch",
            id="other patches",
        ),
        pytest.param(
            "siglip",
            changed(CONFIG, vision_config=3),
            "crops to 32 pixels, .* sees 224",
            id="no config of the frames",
        ),
        pytest.param(
            "clip",
            lambda folder: (folder / "config.json").write_text("[]"),
            "its content is ",
            id="list as config",
        ),
    ],
)
def test_a_folder_without_safe_model_is_rejected(folders, tmp_path, encoder_type, change, words):
    folder = shutil.copytree(folders[encoder_type], tmp_path / "encoder")
    change(folder)
    with pytest.raises(EpicError, match=words) as caught:
        HuggingFaceFolder(folder).open()
    assert str(caught.value).startswith(str(folder)) and "\n" not in str(caught.value)


def test_the_fingerprint_follows_weights_and_processor(folders, tmp_path):
    folder = shutil.copytree(folders["vjepa2"], tmp_path / "encoder")
    first = HuggingFaceFolder(folder).fingerprint
    (folder / "README.md").write_text("another card")
    assert HuggingFaceFolder(folder).fingerprint == first
    make_encoder(folder, "vjepa2", seed=1)
    with_other_weights = HuggingFaceFolder(folder).fingerprint
    change_keys(folder, VIDEO_PROCESSOR, image_std=[0.2, 0.2, 0.2])
    assert len({first, with_other_weights, HuggingFaceFolder(folder).fingerprint}) == 3


def test_dinov2_sees_frames_of_its_processor_s_size(folders, tmp_path):
    # Published folders are like this: config.json says 518 pixels, and the processor 224.
    folder = shutil.copytree(folders["dinov2"], tmp_path / "encoder")
    change_keys(folder, IMAGE_PROCESSOR, size=56, crop_size=48)
    about = HuggingFaceFolder(folder)
    assert (about.size, about.short_side) == (48, 56)
    backbone = HuggingFaceBackbone(**backbone_config(folder, frozen=True))
    with torch.inference_mode():
        tokens = backbone(torch.zeros(1, 3, 8, 48, 48))
    # Each of eight frames has a class token and 6 x 6 places.
    assert tokens.shape == (1, 8 * (1 + 6 * 6), WIDTH)
