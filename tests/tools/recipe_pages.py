"""Write what is made from the `reference` of each recipe: docstrings, and the tables of two pages.

make keys

A recipe (a file of config/zoo, or one of X3D-S) states in `reference` what was published and from
where: `figure` on EPIC-KITCHENS-100's val, `numbers` by file and commit, and in `differs` why one
is not so here. The same file may be overruled by one below it. `stated` reads the same names from
a config as it is trained, so that a test finds every difference that has no reason.
"""

import re
import textwrap
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch.utils.flop_counter import FlopCounterMode

import epic100.model.registered  # noqa: F401  (registers what the recipes name)
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
COSTS_HEAD = """| `config/` | learns; at a rate for a batch; epochs | not as there | GFLOP; hours |
|---|---|---|---|"""
# These are said once above the table.
EVERYWHERE = ("last_batch", "warm_up_ends", "precision", "batch")
SOURCE = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{7}:\S+")
# The train list has so many segments.
SEGMENTS = 67_217
# These are stated only where they are not as here.
SILENT = ("warm_up_ends", "dropout_of", "cutmix_of")
# The pages call the numbers so, in this order. `rate` is for a batch of `rate_batch` segments.
WORDS = {
    "loss": "loss",
    "smoothing": "smoothing",
    "optimizer": "optimizer",
    "rate": "rate",
    "rate_batch": "for a batch of",
    "batch": "batch",
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
    """A recipe as its file states it."""
    return Config.fromfile(ROOT / RECIPES[name])


def numbers(config: Config) -> dict[str, tuple[Any, str]]:
    """What was published, by name: the value, and the file that states it, with its commit."""
    return {
        name: (value, f"{code}:{file}")
        for code, files in config.reference.numbers.to_dict().items()
        for file, found in files.items()
        for name, value in found.items()
    }


def stated(config: Config) -> dict[str, Any]:
    """What a config trains, by the names of `WORDS`; None and what is absent mean the same."""
    model, wrapper, loader = config.model, config.optim_wrapper, config.train_dataloader
    head, optimizer = model.cls_head.head, wrapper.optimizer
    rules = wrapper.get("paramwise_cfg") or {}
    kept = rules.get("no_decay", [])
    flat = ["fewer than 2 dimensions"] if rules.get("decay_from") == 2 else []
    decayed = ["norms"] if kept == [".bn."] else [*flat, *kept]
    warm_up = [part for part in config.param_scheduler if part.type == "LinearLR"]
    blending = model.data_preprocessor.get("blending")
    heads = HEADS[model.cls_head.heads]
    loss = model.cls_head.get("loss", "sum")
    hooks = [hook.type for hook in config.custom_hooks]
    dropped = {"TSNHead": "the mean of the frames", "TSMHead": "each frame"}
    last_of = {"TimeSformerHead": 0.02, "MViTHead": 0.02, "TSMHead": 0.001}
    partial = "first alone" if model.backbone.get("partial_bn") else None
    return {
        "loss": heads if heads == "one head" else f"{loss} of {heads}",
        "smoothing": head.get("label_smooth_eps", 0.0),
        "optimizer": optimizer.type,
        "rate": optimizer.lr,
        "rate_batch": config.auto_scale_lr.base_batch_size,
        "batch": loader.batch_size,
        "momentum": optimizer.get("momentum"),
        "betas": optimizer.get("betas"),
        "nesterov": optimizer.get("nesterov"),
        "decay": optimizer.weight_decay,
        "no_decay": ", ".join(decayed) or "nothing",
        "layer_decay": rules.get("layer_decay"),
        "clip": (wrapper.get("clip_grad") or {}).get("max_norm"),
        "epochs": config.train_cfg.max_epochs,
        "warm_up": [warm_up[0].end, warm_up[0].start_factor] if warm_up else None,
        "warm_up_ends": "with it" if warm_up else None,
        "schedule": schedule(config),
        "last_batch": "kept",
        "dropout": head.get("dropout_ratio", 0.0),
        "dropout_of": dropped.get(head.type, "features"),
        "drop_path": 0.1
        if model.backbone.type == "TimeSformer"
        else model.backbone.get("drop_path_rate"),
        "head_init": head.get("init_std", last_of.get(head.type, 0.01)),
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


def schedule(config: Config) -> str:
    """The rates after the warm-up, in words."""
    last = config.param_scheduler[-1]
    if last.type == "MultiStepLR":
        return f"steps at {', '.join(map(str, last.milestones))} by {last.gamma:g}"
    ratio = last.get("eta_min_ratio", 0)
    length = last.end - last.get("begin", 0)
    over = "" if last.T_max == length else f" of {last.T_max} epochs"
    return f"cosine{over} to {shown(ratio)}"


def augmentation(config: Config) -> str | None:
    """RandAugment and erasing, in words."""
    steps = {step.type: step for step in config.train_dataloader.dataset.pipeline}
    if "TorchVisionWrapper" not in steps:
        return None
    drawn, erased = steps["TorchVisionWrapper"], steps["RandomErasing"].erase_prob
    return f"{drawn.op} {drawn.num_ops} x {drawn.magnitude}, erasing {erased:g}"


def pictures(config: Config) -> dict[str, Any]:
    """Frames, crops and views."""
    train = config.train_dataloader.dataset.pipeline
    test = config.test_dataloader.dataset.pipeline
    taken, steps = sampling_of(train), {step.type: step for step in train}
    over = f"{taken.frames} over the segment"
    dense = f"{taken.frames} x {taken.interval} at {taken.fps}"
    crop = steps["DecodeSegment"]
    if "MultiScaleCrop" in steps:
        scales = ", ".join(f"{scale:g}" for scale in steps["MultiScaleCrop"].scales)
        shape = f"of {scales} of the short side, {steps['MultiScaleCrop'].input_size}"
    elif crop.crop == "resized":
        shape = f"{crop.area[0]:g}-{crop.area[1]:g} of the area, {crop.size}"
    else:
        shape = f"{crop.short_side[0]}-{crop.short_side[1]}, {crop.size}"
    seen = {step.type: step for step in test}
    size = seen["DecodeSegment"].get("size") or seen["CenterCrop"].crop_size
    return {
        "frames": dense if taken.kind == "dense" else over,
        "crop": shape,
        "flip": steps.get("Flip", crop).get("flip_ratio", 0.0),
        "test_crop": f"{seen['DecodeSegment'].short_side}, {size}",
        "views": chosen_views(test, None, 1)[0],
    }


def start(config: Config) -> str:
    """What the start weights learned."""
    weights = config.load_from or ""
    return {"kinetics": "Kinetics-400", "weights/": "Ego4D"}.get(
        next(iter(re.findall("kinetics|weights/", weights)), ""), "nothing"
    )


def differences(config: Config) -> dict[str, tuple[Any, Any]]:
    """The published and our value, by name, where they are not the same."""
    here, there = stated(config), {name: value for name, (value, _) in numbers(config).items()}
    there = {name: here[name] for name in SILENT} | there
    pairs = {name: (there.get(name), here[name]) for name in WORDS}
    return {name: pair for name, pair in pairs.items() if not alike(*pair)}


def alike(there: Any, here: Any) -> bool:
    """Whether two values are the same number, or the same list of numbers."""
    if isinstance(there, (list, tuple)) and isinstance(here, (list, tuple)):
        return len(there) == len(here) and all(map(alike, there, here))
    return there == here or not there and not here


def shown(value: Any) -> str:
    """A value as the pages have it."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value))
    if isinstance(value, float) and value and value < 0.004:
        near = Fraction(value).limit_denominator(5000)
        if abs(near - value) < 1e-9 and near.denominator in (300, 3000):
            return f"{near.numerator} / {near.denominator}"
    if value is None or isinstance(value, bool):
        return {None: "-", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def faults(config: Config) -> list[str]:
    """A line for each number without source or reason, and each reason without a difference."""
    if not config.get("reference"):
        return ["reference: missing; expected figure, numbers and differs"]
    found, why, differs = numbers(config), config.reference.differs, differences(config)
    here = stated(config)
    absent = [name for name in WORDS if here[name] is not None and name not in {*found, *SILENT}]
    files = sorted({file for _, file in found.values() if not SOURCE.fullmatch(file)})
    silent = [name for name in differs if name not in why and name not in absent]
    about = [
        *(f"{name} is {here[name]!r} here; state what it is there" for name in absent),
        *(f"{file}; expected owner/repository@commit:path" for file in files),
        *(f"{name} is none of the names of WORDS" for name in found if name not in WORDS),
        *(
            "{} is {!r} there and {!r} here; say why in `differs`".format(name, *differs[name])
            for name in silent
        ),
        *(f"`differs` has {name}, which is the same" for name in {*why} - {*differs}),
    ]
    return [f"reference: {line}" for line in about]


def reasons(config: Config) -> str:
    """What is not as it was published, and why, in words; the same reason once."""
    why: dict[str, list[str]] = {}
    for name, (there, here) in differences(config).items():
        about = f"{WORDS[name]} ({shown(there)} there, {shown(here)} here)"
        why.setdefault(config.reference.differs[name], []).append(about)
    return "; ".join(f"{', '.join(each)}: {reason}" for reason, each in why.items())


def docstring(config: Config) -> str:
    """What the head of a recipe's file says of its numbers, wrapped."""
    codes = " and ".join(code.replace("@", " at ") for code in config.reference.numbers)
    figure = config.reference.figure or "none was published with this model alone"
    text = (
        f"Numbers: {codes}, each with its file in `reference` below. On val of EPIC-100: {figure}. "
        f"Not as there: {reasons(config)}."
    )
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def with_docstring(text: str, config: Config) -> str:
    """The text of a recipe's file with what `docstring` says."""
    before, mark, _ = text.partition("\nNumbers")
    rest = text.partition(mark)[2].partition('"""')[2]
    return f'{before}\n{docstring(config)}\n"""{rest}'


def gflops(config: Config) -> float:
    """Billions of additions and multiplications of a forward pass of one training clip."""
    steps = {step.type: step for step in config.train_dataloader.dataset.pipeline}
    side = steps["DecodeSegment"].get("size") or steps["Resize"].scale[0]
    frames = sampling_of(config.train_dataloader.dataset.pipeline).frames
    flat = config.model.type == "Recognizer2D"
    init_default_scope(config.default_scope)
    backbone = MODELS.build(config.model.backbone).to("meta")
    backbone.eval()
    with torch.device("meta"), FlopCounterMode(display=False) as counted:
        backbone(torch.empty((frames, 3, side, side) if flat else (1, 3, frames, side, side)))
    return counted.get_total_flops() / 1e9


def hours(config: Config) -> float:
    """Of all epochs on an A100, by the FLOPs alone (docs/evidence/training_cost.md)."""
    rate = 0.4 * {"bf16": 312e12, "fp32": 156e12}[precision_of(config)]
    return 3 * 1e9 * gflops(config) * SEGMENTS * config.train_cfg.max_epochs / rate / 3600


def costs(flops: bool = True) -> str:
    """The table of docs/recipe.md: what each file trains, and what it costs, if `flops`."""
    lines = COSTS_HEAD.splitlines()
    for name, path in RECIPES.items():
        config = recipe(name)
        here, link = stated(config), f"[{path.removeprefix('config/')}](../{path})"
        names = [WORDS[key] for key in differences(config) if key not in EVERYWHERE]
        rate = f"{here['optimizer']} {shown(here['rate'])} for {here['rate_batch']}"
        cost = "; ".join(short(f(config)) for f in (gflops, hours)) if flops else ""
        cells = [link, f"{here['loss']}; {rate}; {here['epochs']}", ", ".join(names), cost]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def short(number: float) -> str:
    """A cost with two digits or more."""
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}"


def published() -> str:
    """The tables of docs/evidence/published.md: there and here, and the file of each number."""
    lines = []
    for name, path in RECIPES.items():
        config = recipe(name)
        found, here, differs = numbers(config), stated(config), differences(config)
        lines += [
            f"## {name}",
            "",
            f"`{path}`. On val: {config.reference.figure or 'no figure'}.",
            "",
        ]
        lines += ["| number | there | here | why not as there | file |", "|---|---|---|---|---|"]
        for key in (key for key in WORDS if key in found or key in differs):
            value, file = found.get(key, (None, "-"))
            why = config.reference.differs[key] if key in differs else ""
            mine = shown(here[key]) if key in differs else "the same"
            lines.append(f"| {WORDS[key]} | {shown(value)} | {mine} | {why} | `{file}` |")
        lines.append("")
    return "\n".join(lines)


def between(text: str, new: str) -> str:
    """A page with what is printed between its two marks."""
    before, first, rest = text.partition(BEGIN)
    return before + first + "\n" + new + rest[rest.index(END) :]


if __name__ == "__main__":
    for name, path in RECIPES.items():
        config, file = recipe(name), ROOT / path
        if wrong := faults(config):
            raise SystemExit(f"{path}: {wrong[0]}")
        file.write_text(with_docstring(file.read_text(encoding="utf-8"), config), encoding="utf-8")
    for page, made in {PUBLISHED: published, COSTS: costs}.items():
        page.write_text(between(page.read_text(encoding="utf-8"), made()), encoding="utf-8")
