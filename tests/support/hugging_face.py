"""Make folders of tiny Hugging Face encoders with random weights, in place of large ones."""

from pathlib import Path

import torch

SIZE, PATCH, FRAMES, WIDTH = 32, 8, 4, 48
VIDEO = ("timesformer", "videomae", "vivit", "vjepa2")
IMAGE_ENCODERS = ("clip", "siglip", "dinov2", "dinov3_vit")
ENCODER_TYPES = (*VIDEO, *IMAGE_ENCODERS)
CARD = "---\nlicense: apache-2.0\ntags:\n- video\n---\nRandom weights.\n"


def make_encoder(folder: Path, encoder_type: str, seed: int = 0) -> Path:
    """Save a model and its processor with transformers' own functions, and return the folder."""
    import transformers

    torch.manual_seed(seed)
    # The options of a video model, of a picture model, of a text tower, and of both towers.
    numbers = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2}
    video = numbers | {"image_size": SIZE, "num_frames": FRAMES, "intermediate_size": WIDTH}
    picture = numbers | {"image_size": SIZE, "patch_size": PATCH, "intermediate_size": WIDTH}
    texts = numbers | {
        "vocab_size": 9,
        "intermediate_size": WIDTH,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    both = {"vision_config": picture, "text_config": texts}
    model, config, options = {
        "clip": ("CLIPModel", "CLIPConfig", both | {"projection_dim": 8}),
        "siglip": ("SiglipModel", "SiglipConfig", both),
        "dinov2": ("Dinov2Model", "Dinov2Config", picture | {"image_size": 2 * SIZE}),
        "dinov3_vit": ("DINOv3ViTModel", "DINOv3ViTConfig", picture | {"num_register_tokens": 3}),
        "timesformer": ("TimesformerModel", "TimesformerConfig", video | {"patch_size": PATCH}),
        "videomae": ("VideoMAEModel", "VideoMAEConfig", video | {"patch_size": PATCH}),
        "vivit": ("VivitModel", "VivitConfig", video | {"tubelet_size": [2, PATCH, PATCH]}),
        "vjepa2": (
            "VJEPA2Model",
            "VJEPA2Config",
            numbers
            | {
                "crop_size": SIZE,
                "patch_size": PATCH,
                "frames_per_clip": FRAMES,
                "pred_hidden_size": WIDTH,
                "pred_num_hidden_layers": 1,
                "pred_num_attention_heads": 2,
            },
        ),
    }[encoder_type]
    built = getattr(transformers, model)(getattr(transformers, config)(**options))
    built.save_pretrained(folder)
    processor(encoder_type).save_pretrained(folder)
    (folder / "README.md").write_text(CARD)
    return folder


def processor(encoder_type: str):
    """Make the processor of an encoder of `make_encoder`, to compare pixels with."""
    import transformers

    name = {
        "vjepa2": "VJEPA2Video",
        "videomae": "VideoMAEVideo",
        "clip": "CLIPImage",
        "siglip": "SiglipImage",
        "dinov2": "BitImage",
        "dinov3_vit": "DINOv3ViTImage",
    }.get(encoder_type, f"{encoder_type.capitalize()}Video")
    crop = {"height": SIZE, "width": SIZE}
    sides = {"size": {"shortest_edge": 36}, "crop_size": crop}
    if encoder_type in ("siglip", "dinov3_vit"):
        # These processors squeeze a picture into a square.
        sides = {"size": crop}
    return getattr(transformers, f"{name}Processor")(**sides)
