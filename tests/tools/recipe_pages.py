"""Write the tables of two pages from the `reference` of each recipe.

make keys

A recipe (a file of config/zoo, or one of X3D-S) states in `reference` what its authors published:
their `figure` on val of EPIC-KITCHENS-100; `numbers` such as the learning rate, by the file and
commit that state them; and in `differs` why a number is another one in the recipe. Where two files
state a number, the later one counts. `stated` reads the same numbers from a config as it is
trained, so that a test finds every difference that has no reason. It takes no default for a number
that a recipe does not state: it builds the object and asks it, or fails.
"""

import ast
import re
from collections import defaultdict
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from mmaction.registry import MODELS, OPTIMIZERS, PARAM_SCHEDULERS, TRANSFORMS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from epic100.model.hugging_face import BACKBONE
from epic100.model.views import chosen_views, sampling_of
from epic100.training.recipe import precision_of

ROOT = Path(__file__).resolve().parents[2]
DEFAULT, SCRATCH = "x3d_s_epic_rgb_segments", "x3d_s_epic_from_scratch"
ZOO = sorted(path.stem for path in (ROOT / "config/zoo").glob("*.py") if path.stem != "base")
RECIPES = {DEFAULT: f"config/{DEFAULT}.py", SCRATCH: f"config/{SCRATCH}.py"} | {
    name: f"config/zoo/{name}.py" for name in ZOO
}
HEADS = {"pair": "one head", "verb_noun": "verb, noun", "both": "pair, verb, noun"}
PUBLISHED, COSTS = ROOT / "docs/evidence/published.md", ROOT / "docs/recipe.md"
BEGIN, END = "<!-- printed by make keys -->", "<!-- end -->"
COSTS_HEAD = """| `config/` | learns; at a rate for a batch; epochs | GFLOP; hours |
|---|---|---|"""
SOURCE = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{7}:\S+")
# The official train CSV has this many segments.
SEGMENTS = 67_217
# A `reference` states these numbers only if they differ from the recipe's.
SAME_UNLESS_STATED = ("repeats", "warm_up_ends", "dropout_of", "cutmix_of")
# The pages have these words for the numbers, in this order. `rate` is for a batch of `rate_batch`
# segments.
WORDS = {
    "loss": "loss",
    "smoothing": "smoothing",
    "optimizer": "optimizer",
    "rate": "rate",
    "rate_batch": "for a batch of",
    "batch": "batch",
    "repeats": "clips of a segment in a batch",
    "momentum": "momentum",
    "betas": "betas",
    "nesterov": "Nesterov's",
    "decay": "weight decay",
    "no_decay": "undecayed",
    "layer_decay": "rate of a layer by the next",
    "clip": "clipping",
    "epochs": "epochs",
    "warm_up": "warm-up: epochs, first share",
    "warm_up_ends": "warm-up ends",
    "schedule": "schedule",
    "last_batch": "smaller last batch",
    "dropout": "dropout",
    "dropout_of": "dropped",
    "drop_path": "drop path",
    "head_init": "deviation of a new head",
    "batch_norm": "BatchNorm",
    "mixing": "mixing",
    "cutmix_of": "CutMix box",
    "augmentation": "augmentation",
    "precision": "precision",
    "mean": "mean",
    "std": "deviation",
    "frames": "frames",
    "crop": "crop",
    "flip": "flips",
    "test_crop": "test crop",
    "views": "views",
    "start": "start",
}


def recipe(name: str) -> Config:
    """Read a recipe by its name, such as "tsn_r50"."""
    return Config.fromfile(ROOT / RECIPES[name])


def numbers(config: Config) -> dict[str, tuple[Any, str]]:
    """List the published numbers: the value, and the file that states it, by name.

    A file is `owner/repository@commit:path`.
    """
    return {
        name: (value, f"{repository}:{file}")
        for repository, files in config.reference.numbers.to_dict().items()
        for file, values in files.items()
        for name, value in values.items()
    }


def stated(config: Config) -> dict[str, Any]:
    """Read the numbers of a config as it is trained, by the names of `WORDS`; None means none."""
    init_default_scope(config.default_scope)
    model, wrapper = config.model, config.optim_wrapper
    head = MODELS.build({**model.cls_head.head, "num_classes": 1})
    backbone = built_backbone(config)
    drop_path = max((getattr(part, "drop_prob", 0) for part in backbone.modules()), default=0)
    optimizer = built_optimizer(config).defaults
    # These are rules of our own, and one that is absent does not apply.
    rules = wrapper.paramwise_cfg or {}
    undecayed = rules.get("no_decay", [])
    if undecayed == [".bn."]:
        undecayed = ["norms"]
    elif rules.get("decay_from") == 2:
        undecayed = ["fewer than 2 dimensions", *undecayed]
    warm_up = [part for part in config.param_scheduler if part.type == "LinearLR"]
    blending = model.data_preprocessor.get("blending")
    # A recipe that states no heads has one over pairs.
    outputs = {"heads": "pair", "loss": "sum", **model.cls_head}
    heads = HEADS[outputs["heads"]]
    hooks = [hook.type for hook in config.custom_hooks]
    dropped = {"TSNHead": "the mean of the frames", "TSMHead": "each frame"}
    partial = "first alone" if getattr(backbone, "partial_bn", False) else None
    return {
        "loss": heads if heads == "one head" else f"{outputs['loss']} of {heads}",
        # `OutputsLoss` smooths by this, too.
        "smoothing": head.label_smooth_eps,
        "optimizer": wrapper.optimizer.type,
        "rate": optimizer["lr"],
        "rate_batch": config.auto_scale_lr.base_batch_size,
        "batch": config.train_dataloader.batch_size,
        # Our data set has each segment once in an epoch.
        "repeats": 1,
        # SGD has no betas, and Adam no momentum.
        "momentum": optimizer.get("momentum"),
        "betas": optimizer.get("betas"),
        "nesterov": optimizer.get("nesterov"),
        "decay": optimizer["weight_decay"],
        "no_decay": ", ".join(undecayed) or "nothing",
        "layer_decay": rules.get("layer_decay"),
        "clip": wrapper.clip_grad and wrapper.clip_grad.max_norm,
        "epochs": config.train_cfg.max_epochs,
        "warm_up": [warm_up[0].end, warm_up[0].start_factor] if warm_up else None,
        "warm_up_ends": "with it" if warm_up else None,
        "schedule": schedule(config),
        "last_batch": "kept",
        "dropout": head.dropout_ratio,
        "dropout_of": dropped.get(head.__class__.__name__, "features"),
        # Some rates are computed in float32.
        "drop_path": round(float(drop_path), 6) or None,
        "head_init": head.init_std,
        "batch_norm": "frozen" if "FrozenBatchNormHook" in hooks else partial,
        "mixing": blending and f"Mixup {blending.mixup:g}, CutMix {blending.cutmix:g}",
        "cutmix_of": blending and "height and width",
        "augmentation": augmentation(config),
        "precision": precision_of(config),
        "mean": model.data_preprocessor.mean,
        "std": model.data_preprocessor.std,
        "start": start(config),
        **pictures(config),
    }


def built_backbone(config: Config) -> nn.Module:
    """Build the backbone of a config, without values of its weights.

    An encoder of Hugging Face is a folder of the user's, so nothing takes its place.
    """
    if has_encoder(config):
        return nn.Identity()
    return _backbone_of(repr(config.model.backbone.to_dict()))


def has_encoder(config: Config) -> bool:
    """Whether the backbone of a config is an encoder of Hugging Face."""
    return config.model.backbone.type == BACKBONE


@cache
def _backbone_of(spec: str) -> nn.Module:
    """Build a backbone from its config as text. Some take seconds, and are asked for several times.

    Their drop path makes lists of tensors, so they cannot be built on the device "meta".
    """
    # To draw the weights takes most of the time.
    with patch.object(nn.Linear, "reset_parameters"):
        return MODELS.build(ast.literal_eval(spec)).to("meta")


def built_optimizer(config: Config) -> torch.optim.Optimizer:
    """Build the optimizer of a config, for one weight."""
    weight = nn.Parameter(torch.zeros(1))
    return OPTIMIZERS.build({**config.optim_wrapper.optimizer, "params": [weight]})


def schedule(config: Config) -> str:
    """Describe the learning rates after the warm-up: `steps at 20, 40 by 0.1`, `cosine to 0.01`.

    Raises:
        ValueError: There are no words for a schedule of this type.
    """
    last = config.param_scheduler[-1]
    if last.type == "MultiStepLR":
        return f"steps at {', '.join(map(str, last.milestones))} by {last.gamma:g}"
    if last.type != "CosineAnnealingLR":
        raise ValueError(
            f"no words for the schedule {last.type}; known are MultiStepLR and CosineAnnealingLR; "
            "add it to `schedule` of tests/tools/recipe_pages.py"
        )
    # A cosine may be longer than the training, which then ends on the way down.
    length = "" if last.T_max == last.end - last.begin else f" of {last.T_max} epochs"
    optimizer = built_optimizer(config)
    by_epoch = {**last, "convert_to_iter_based": False, "optimizer": optimizer}
    built = PARAM_SCHEDULERS.build(by_epoch)
    ratio = built.eta_min_ratio
    if ratio is None:
        ratio = built.eta_min / optimizer.defaults["lr"]
    return f"cosine{length} to {shown(ratio)}"


def augmentation(config: Config) -> str | None:
    """Describe RandAugment and erasing: `RandAugment 4 x 7, erasing 0.25`; None without them."""
    steps = {step.type: step for step in config.train_dataloader.dataset.pipeline}
    if not steps.keys() & {"TorchVisionWrapper", "RandomErasing"}:
        return None
    wrapped = steps["TorchVisionWrapper"]
    erasing = steps["RandomErasing"].erase_prob
    return f"{wrapped.op} {wrapped.num_ops} x {wrapped.magnitude}, erasing {erasing:g}"


def pictures(config: Config) -> dict[str, Any]:
    """Describe the frames, crops and views, by the names of `WORDS`."""
    train = config.train_dataloader.dataset.pipeline
    test = config.test_dataloader.dataset.pipeline
    steps = {step.type: step for step in train}
    test_steps = {step.type: step for step in test}
    sampling = sampling_of(train)
    frames = f"{sampling.frames} over the segment"
    if sampling.sampling_type == "dense":
        frames = f"{sampling.frames} x {sampling.interval} at {sampling.fps}"
    crop = steps["DecodeSegment"]
    flipping = TRANSFORMS.build(steps.get("Flip", crop))
    if "MultiScaleCrop" in steps:
        scales = ", ".join(f"{scale:g}" for scale in steps["MultiScaleCrop"].scales)
        shape = f"of {scales} of the short side, {steps['MultiScaleCrop'].input_size}"
    elif crop.crop == "resized":
        shape = f"{crop.area[0]:g}-{crop.area[1]:g} of the area, {crop.size}"
    else:
        shape = f"{crop.short_side[0]}-{crop.short_side[1]}, {crop.size}"
    size = test_steps["DecodeSegment"].get("size") or test_steps["CenterCrop"].crop_size
    return {
        "frames": frames,
        "crop": shape,
        # `DecodeSegment` flips by its crop.
        "flip": getattr(flipping, "crop", flipping).flip_ratio,
        "test_crop": f"{test_steps['DecodeSegment'].short_side}, {size}",
        "views": chosen_views(test, None, 1)[0],
    }


def start(config: Config) -> str:
    """Name the data that the start weights were trained on."""
    if config.load_from is None:
        return "the encoder" if has_encoder(config) else "nothing"
    for part, data in (("kinetics", "Kinetics-400"), ("weights/", "Ego4D")):
        if part in config.load_from:
            return data
    raise ValueError(f"no words for the start weights {config.load_from}; add them to `start`")


def differences(config: Config) -> dict[str, tuple[Any, Any]]:
    """List the published value and the recipe's where they are not the same, by name."""
    here = stated(config)
    there = {name: here[name] for name in SAME_UNLESS_STATED}
    there |= {name: value for name, (value, _) in numbers(config).items()}
    pairs = {name: (there.get(name), here[name]) for name in WORDS}
    return {name: pair for name, pair in pairs.items() if not alike(*pair)}


def alike(there: Any, here: Any) -> bool:
    """Whether two values are the same; a list and a tuple may be, and so are 0 and none."""
    if isinstance(there, (list, tuple)) and isinstance(here, (list, tuple)):
        return list(there) == list(here)
    return there == here or (not there and not here)


def shown(value: Any) -> str:
    """Write a value for a page: `0.1`, `1 / 300`, `yes`, and `-` for none."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value))
    if value is None or isinstance(value, bool):
        return {None: "-", True: "yes", False: "no"}[value]
    if not isinstance(value, float):
        return str(value)
    # Some rates are divided by 300 or 3000.
    fraction = Fraction(value).limit_denominator(5000)
    if fraction.denominator in (300, 3000) and abs(fraction - value) < 1e-9:
        return f"{fraction.numerator} / {fraction.denominator}"
    return f"{value:g}"


def faults(config: Config) -> list[str]:
    """Check a `reference`: a line for each number without a source, or a wrong reason or none."""
    if not config.get("reference"):
        return ["reference: missing; expected figure, numbers and differs"]
    published_numbers, here, differs = numbers(config), stated(config), differences(config)
    reasons_given = config.reference.differs
    expected = {*published_numbers, *SAME_UNLESS_STATED}
    absent = [name for name in WORDS if here[name] is not None and name not in expected]
    files = sorted({file for _, file in published_numbers.values() if not SOURCE.fullmatch(file)})
    lines = [
        *(f"{name} is {here[name]!r} here; state what it is there" for name in absent),
        *(f"{file}; expected owner/repository@commit:path" for file in files),
        *(f"{name} is none of the names of WORDS" for name in published_numbers.keys() - WORDS),
        *(
            f"{name} is {there!r} there and {ours!r} here; say why in `differs`"
            for name, (there, ours) in differs.items()
            if name not in reasons_given and name not in absent
        ),
        *(f"`differs` has {name}, which is the same" for name in reasons_given.keys() - differs),
    ]
    return [f"reference: {line}" for line in lines]


def gflops(config: Config) -> float:
    """Count the billions of additions and multiplications of a forward pass of a training clip."""
    steps = {step.type: step for step in config.train_dataloader.dataset.pipeline}
    side = steps["DecodeSegment"].get("size") or steps["Resize"].scale[0]
    frames = sampling_of(config.train_dataloader.dataset.pipeline).frames
    is_2d = config.model.type == "Recognizer2D"
    init_default_scope(config.default_scope)
    backbone = built_backbone(config)
    backbone.eval()
    # The device "meta" has shapes and no data, so that the pass takes no time.
    with torch.device("meta"), FlopCounterMode(display=False) as counted:
        backbone(torch.empty((frames, 3, side, side) if is_2d else (1, 3, frames, side, side)))
    return counted.get_total_flops() / 1e9


def hours(config: Config) -> float:
    """Estimate the hours of all epochs on an A100 by FLOPs (docs/evidence/gpu.md)."""
    # The estimate assumes 40 % of the FLOPs per second that NVIDIA states, and that a backward pass
    # takes two forward passes.
    flops_per_second = 0.4 * {"bf16": 312e12, "fp32": 156e12}[precision_of(config)]
    flops = 3 * 1e9 * gflops(config) * SEGMENTS * config.train_cfg.max_epochs
    return flops / flops_per_second / 3600


def costs(flops: bool = True) -> str:
    """Make the table of docs/recipe.md: the training of each recipe, and if `flops` its cost."""
    lines = COSTS_HEAD.splitlines()
    for name, path in RECIPES.items():
        config = recipe(name)
        here = stated(config)
        link = f"[{path.removeprefix('config/')}](../{path})"
        rate = f"{here['optimizer']} {shown(here['rate'])} for {here['rate_batch']}"
        cost = "the encoder's" if has_encoder(config) else ""
        if flops and not cost:
            cost = f"{short(gflops(config))}; {short(hours(config))}"
        cells = [link, f"{here['loss']}; {rate}; {here['epochs']}", cost]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def short(number: float) -> str:
    """Write a number with two digits or more: `3.1`, `17`."""
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}"


def published() -> str:
    """Make the tables of docs/evidence/published.md: what differs, then what is as published."""
    lines = []
    for name, path in RECIPES.items():
        config = recipe(name)
        published_numbers, here, differs = numbers(config), stated(config), differences(config)
        lines += [
            f"## {name}",
            "",
            f"`{path}`. On val: {config.reference.figure or 'no figure'}.",
            "",
            "| number | there | here | why not as there | file |",
            "|---|---|---|---|---|",
        ]
        same: defaultdict[str, list[str]] = defaultdict(list)
        for key in (key for key in WORDS if key in published_numbers or key in differs):
            value, file = published_numbers.get(key, (None, "-"))
            if key in differs:
                why = config.reference.differs[key]
                lines.append(
                    f"| {WORDS[key]} | {shown(value)} | {shown(here[key])} | {why} | `{file}` |"
                )
            else:
                same[file].append(f"{WORDS[key]} {shown(value)}")
        lines += ["", "The same here:", ""]
        lines += [f"- `{file}`: {'; '.join(texts)}" for file, texts in same.items()]
        lines.append("")
    return "\n".join(lines)


def between(text: str, new: str) -> str:
    """Put text between the two marks of a page."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{begin}\n{new}{end}{after}"


if __name__ == "__main__":
    for name, path in RECIPES.items():
        if wrong := faults(recipe(name)):
            raise SystemExit(f"{path}: {wrong[0]}")
    for page, made in {PUBLISHED: published, COSTS: costs}.items():
        page.write_text(between(page.read_text(encoding="utf-8"), made()), encoding="utf-8")
