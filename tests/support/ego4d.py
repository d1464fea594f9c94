"""Random checkpoints in the layouts of AVION and LaViLa, and what their encoders compute.

The forward passes are written from the papers' equations: vision transformers (Dosovitskiy et al.,
2021) on the patches of all frames, attention over all of them or divided (Bain et al., 2021).
"""

import argparse
from pathlib import Path

import torch

from epic100.model.published import published

WIDTH, DEPTH, HEADS, PATCH, SIDE = 24, 2, 3, 8, 32


def published_encoder(kind):
    """The published model of this kind, with the sizes above."""
    sizes = {"img_size": SIDE, "patch_size": PATCH, "embed_dims": WIDTH, "depth": DEPTH,
             "num_heads": HEADS}  # fmt: skip
    model = published()[f"{kind}_b"]
    changes = {f"backbone.{key}": value for key, value in sizes.items()}
    return model.model_copy(update={"changes": model.changes | changes})


def checkpoint(kind, path, *, frames=4, fast=True, change=None):
    """Write one with a text tower, a head and pickled arguments; return its tensors."""
    draw = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(shape, generator=draw) * (shape[-1] ** -0.5 if len(shape) > 1 else 0.3)

    def layer(name, out, into):
        return {f"{name}.weight": random(out, into), f"{name}.bias": random(out)}

    def norm(name):
        return {f"{name}.weight": 1 + random(WIDTH), f"{name}.bias": random(WIDTH)}

    def attention(name, qkv, proj):
        return layer(f"{name}{qkv}", 3 * WIDTH, WIDTH) | layer(f"{name}{proj}", WIDTH, WIDTH)

    tensors, mlp = {}, ("mlp.fc1", "mlp.fc2")
    places, kernel = 1 + (SIDE // PATCH) ** 2, random(WIDTH, 3, PATCH, PATCH)
    if kind == "avion":
        tensors |= {"class_embedding": random(WIDTH),
                    "positional_embedding": random(places, WIDTH),
                    "temporal_embedding": random(frames, WIDTH),
                    "conv1.weight": kernel.flatten(1) if fast else kernel}  # fmt: skip
        tensors |= norm("ln_pre") | norm("ln_post")
        if not fast:
            mlp = ("mlp.c_fc", "mlp.c_proj")
    else:
        tensors |= {
            "cls_token": random(1, 1, WIDTH),
            "pos_embed": random(1, places, WIDTH),
            "temporal_embed": random(1, frames, WIDTH),
            "patch_embed.proj.weight": kernel,
        }
        tensors |= norm("ln_pre") | norm("norm")
    for number in range(DEPTH):
        block = f"transformer.resblocks.{number}." if kind == "avion" else f"blocks.{number}."
        if kind == "avion":
            names = ("attn.Wqkv", "attn.out_proj") if fast else ("attn.in_proj", "attn.out_proj")
            own = attention(block, *names) | norm(f"{block}ln_1") | norm(f"{block}ln_2")
            own = {name.replace("in_proj.", "in_proj_"): value for name, value in own.items()}
        else:
            own = attention(block, "attn.qkv", "attn.proj")
            own |= attention(block, "timeattn.qkv", "timeattn.proj")
            for name in ("norm1", "norm2", "norm3"):
                own |= norm(block + name)
        own |= layer(block + mlp[0], 4 * WIDTH, WIDTH) | layer(block + mlp[1], WIDTH, 4 * WIDTH)
        tensors |= own
    state = {f"module.visual.{name}": value for name, value in tensors.items()}
    state |= {"module.visual.image_projection": random(WIDTH, 8), "module.logit_scale": random(1),
              "module.textual.token_embedding.weight": random(9, 8),
              "module.fc_cls.weight": random(5, WIDTH)}  # fmt: skip
    content = {"epoch": 3, "state_dict": state, "args": argparse.Namespace(model="CLIP_VITB16")}
    torch.save(change(content) if change else content, Path(path))
    return tensors


def features(kind, weights, clips, act):
    """What the encoder makes of clips [B, 3, T, H, W]: [B, WIDTH]."""
    w = {name.replace("in_proj_", "Wqkv.").replace("c_fc", "fc1").replace("c_proj", "fc2"): value
         for name, value in weights.items()}  # fmt: skip
    avion = kind == "avion"
    first, places, times, kernel = list(w.values())[:4]
    batch, _, frames = clips.shape[:3]
    pieces = clips.unfold(3, PATCH, PATCH).unfold(4, PATCH, PATCH)
    pieces = pieces.permute(0, 2, 3, 4, 1, 5, 6).reshape(batch, frames, -1, 3 * PATCH**2)
    x = pieces @ kernel.reshape(WIDTH, -1).T
    places, times = places.reshape(-1, WIDTH), times.reshape(-1, WIDTH)
    x = x + places[1:] + times[:, None]
    start = (first.reshape(WIDTH) + places[0]).expand(batch, 1, WIDTH)
    x = torch.cat([start, x.flatten(1, 2)], 1)

    def norm(x, name, eps=1e-6):
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt()
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def attend(x, qkv, proj, seen):
        q, k, v = linear(x, qkv).chunk(3, -1)
        heads = []
        for part in torch.arange(WIDTH).chunk(HEADS):
            scores = q[..., part] @ k[..., part].transpose(1, 2) / len(part) ** 0.5
            heads.append(scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v[..., part])
        return linear(torch.cat(heads, -1), proj)

    number = torch.arange(frames * (len(places) - 1))
    frame, place = number // (len(places) - 1), number % (len(places) - 1)

    def mask(group):
        seen = torch.ones(len(number) + 1, len(number) + 1, dtype=torch.bool)
        seen[1:, 1:] = group[:, None] == group[None]
        return seen

    x = norm(x, "ln_pre", 1e-6 if avion else 1e-5)
    for block in range(DEPTH):
        if avion:
            b = f"transformer.resblocks.{block}."
            x = x + attend(norm(x, b + "ln_1"), b + "attn.Wqkv", b + "attn.out_proj",
                           torch.tensor(True))  # fmt: skip
        else:
            b = f"blocks.{block}."
            t = x + attend(norm(x, b + "norm3"), b + "timeattn.qkv", b + "timeattn.proj",
                           mask(place))  # fmt: skip
            x = x + attend(norm(t, b + "norm1"), b + "attn.qkv", b + "attn.proj", mask(frame))
        second = "ln_2" if avion else "norm2"
        x = x + linear(act(linear(norm(x, b + second), b + "mlp.fc1")), b + "mlp.fc2")
    return norm(x, "ln_post" if avion else "norm")[:, 0]
