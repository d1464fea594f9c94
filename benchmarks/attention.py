"""VideoMAE-B on a CPU, with MMAction2's attention and with torch's fused one.

    python benchmarks/attention.py [--rounds 5]

The forward pass of the whole backbone on one clip of 16 frames of 224 pixels, of one attention
layer on its 1,568 tokens, and of that layer without its two projections. Random weights, one
thread, the two in turns. The shortest CPU time of each counts, since the machine has other work.
The last line is one JSON object.
"""

import argparse
import json
import time
from collections.abc import Callable

import torch
from mmaction.registry import MODELS
from torch import Tensor, nn

import epic100.mmaction  # noqa: F401  (registers what is built)

NAMES = ("VisionTransformer", "FusedVisionTransformer")


def shortest(calls: list[Callable[[], Tensor]], rounds: int) -> tuple[list[float], float]:
    """Shortest CPU seconds of each call, and the largest difference of their results."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        found = []
        for call, seconds in zip(calls, times, strict=True):
            began = time.process_time()
            found.append(call())
            seconds.append(time.process_time() - began)
    return [min(seconds) for seconds in times], (found[0] - found[1]).abs().max().item()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    torch.set_num_threads(1)
    models = [MODELS.build({"type": name}).eval() for name in NAMES]
    models[1].load_state_dict(models[0].state_dict())
    layers: list[nn.Module] = [model.blocks[0].attn for model in models]
    clip, tokens = torch.randn(1, 3, 16, 224, 224), torch.randn(1, 1568, 768)

    def given(module: nn.Module, x: Tensor) -> Callable[[], Tensor]:
        return lambda: module(x)

    rows = {}
    with torch.inference_mode():
        rows["backbone"] = shortest([given(model, clip) for model in models], rounds)
        rows["attention layer"] = shortest([given(layer, tokens) for layer in layers], 4 * rounds)
        projections = [lambda: layers[0].proj(layers[0].qkv(tokens)[..., :768])] * 2
        linear = min(shortest(projections, 4 * rounds)[0])
    (theirs, ours), difference = rows["attention layer"]
    rows["without projections"] = [theirs - linear, ours - linear], difference
    for name, ((theirs, ours), difference) in rows.items():
        print(f"{name}: {theirs:.3f} s and {ours:.3f} s, {theirs / ours:.1f} times as fast, "
              f"results differ by at most {difference:.1e}")  # fmt: skip
    print(json.dumps({name: {"seconds": seconds, "difference": off} for name, (seconds, off) in
                      rows.items()}))  # fmt: skip


if __name__ == "__main__":
    main()
