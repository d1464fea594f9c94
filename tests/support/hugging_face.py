"""Folders of tiny Hugging Face encoders with random weights, as a lab downloads large ones."""

from pathlib import Path

import torch

SIZE, PATCH, FRAMES, WIDTH = 32, 8, 4, 48
KINDS = ("timesformer", "videomae", "vivit", "vjepa2")
CARD = "---\nlicense: apache-2.0\ntags:\n- video\n---\nRandom weights.\n"


def make_encoder(folder: Path, kind: str, seed: int = 0) -> Path:
    """Save a model and its processor with transformers' own functions; returns the folder."""
    import transformers

    torch.manual_seed(seed)
    numbers = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2}
    plain = numbers | {"image_size": SIZE, "num_frames": FRAMES, "intermediate_size": WIDTH}
    model, config, options = {
        "timesformer": ("TimesformerModel", "TimesformerConfig", plain | {"patch_size": PATCH}),
        "videomae": ("VideoMAEModel", "VideoMAEConfig", plain | {"patch_size": PATCH}),
        "vivit": ("VivitModel", "VivitConfig", plain | {"tubelet_size": [2, PATCH, PATCH]}),
        "vjepa2": ("VJEPA2Model", "VJEPA2Config", numbers | {
            "crop_size": SIZE, "patch_size": PATCH, "frames_per_clip": FRAMES,
            "pred_hidden_size": WIDTH, "pred_num_hidden_layers": 1,
            "pred_num_attention_heads": 2}),
    }[kind]  # fmt: skip
    built = getattr(transformers, model)(getattr(transformers, config)(**options))
    built.save_pretrained(folder)
    processor(kind).save_pretrained(folder)
    (folder / "README.md").write_text(CARD)
    return folder


def processor(kind: str):
    """The processor of `make_encoder`, to compare pixels with."""
    import transformers

    name = {"vjepa2": "VJEPA2", "videomae": "VideoMAE"}.get(kind, kind.capitalize())
    sides = {"size": {"shortest_edge": 36}, "crop_size": {"height": SIZE, "width": SIZE}}
    return getattr(transformers, f"{name}VideoProcessor")(**sides)
