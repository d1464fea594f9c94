"""Published models: our scores, frames, pixels and classes beside those of their public code.

    python benchmarks/adopted.py --code DIR --annotations DIR --sheet TSV --clips DIR
    python benchmarks/adopted.py --code DIR --record tests/migrate/data/published.json

DIR of the code has a checkout of each repository in config/published.yaml, in a folder of its own
(AVION, LaViLa, epic-kitchens-slowfast, C1-Action-Recognition-TSN-TRN-TSM); timm, fvcore, iopath,
simplejson and yacs must be installed. For each architecture their classes build a network of full
size, whose random weights are saved as their training saves them; `adopt` reads that file, and
both score the same clips. What their modules import and these classes do not use (flash_attn, clip,
detectron2, gulpio2, GPT-2) is replaced by empty modules.

Then the frames of 200 official rows, 100 of videos with 50 pictures a second and 100 of 59.94, by
their samplers and by ours, as times; the pictures of real clips by their transforms and by ours;
and the order of the 3,806 actions. The last line is one JSON object. With `--record`, small
networks of their classes are scored instead, for tests (tests/support/published_weights.py).
"""

import argparse
import importlib
import json
import resource
import sys
import tempfile
import time
import types
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path

import av
import numpy as np
import pandas as pd
import torch
import torchvision

from epic100.clips.crop import Crop
from epic100.clips.published_frames import PublishedFrames
from epic100.migrate import adopt as adopting
from epic100.model.foreign import open_foreign
from epic100.model.forward import scores_of_views
from epic100.model.model_file import load_model
from epic100.model.published import published
from epic100.model.views import frames_of_2d
from epic100.segments.annotations import annotation_rate, frames_between
from epic100.video.reader import VideoReader

FOLDERS = {
    "avion": "AVION",
    "lavila": "LaViLa",
    "slowfast": "epic-kitchens-slowfast",
    "c1": "C1-Action-Recognition-TSN-TRN-TSM/src",
}
NOT_USED = (
    "clip", "flash_attn", "detectron2", "gulpio2", "lavila.models.gpt2_gated", "colorlog",
    "lavila.models.narrator", "lavila.models.openai_clip", "lavila.models.loss", "ftfy", "regex",
    "slowfast.datasets.ava_dataset", "slowfast.datasets.kinetics", "slowfast.datasets.build",
    "transformers", "slowfast.datasets.epickitchens", "slowfast.utils.logging",
)  # fmt: skip
ROWS = 100  # Half of the rows have 59.94 pictures a second, half have 50.


class Empty(MetaPathFinder, Loader):
    """Serves empty modules, each of whose names is a class that does nothing."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        """Serve a module of `NOT_USED`."""
        wanted = any(name == each or name.startswith(f"{each}.") for each in NOT_USED)
        return ModuleSpec(name, self, is_package=True) if wanted else None

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        """Make a module whose names are classes."""
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: type(name, (torch.nn.Module,), {})  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Make it a package."""
        module.__path__ = []


def theirs(name: str, small: bool = False) -> torch.nn.Module:
    """Build a network with their classes."""
    large = name.endswith(("_l", "_l_vn"))
    side, patch, frames = (32, 8, 4) if small else (224, 14 if large else 16, 16)
    width, layers, heads = (64, 2, 1) if small else (1024, 24, 16) if large else (768, 12, 12)
    if name.startswith("avion"):
        vit = importlib.import_module("avion.models.transformer")
        clip = importlib.import_module("avion.models.model_clip")
        visual = vit.VisionTransformer(
            side, patch, width, layers, heads, 4, output_dim=256, num_frames=frames,
            use_fast_conv1=True,
        )  # fmt: skip
        return clip.VideoClassifier(visual, 0.5, 3806)
    if name.startswith("lavila"):
        space = importlib.import_module("lavila.models.timesformer")
        models = importlib.import_module("lavila.models.models")
        gelu = importlib.import_module("lavila.models.openai_model").QuickGELU
        visual = space.SpaceTimeTransformer(
            img_size=side, patch_size=patch, embed_dim=width, depth=layers, num_heads=heads,
            num_frames=frames, time_init="rand", ln_pre=True, act_layer=gelu, num_classes=0,
        )  # fmt: skip
        if name.endswith("_vn"):
            return models.VideoClassifierMultiHead(visual, 0.5, [97, 300, 3806])
        return models.VideoClassifier(visual, 0.5, 3806)
    if name.startswith("slowfast"):
        config = importlib.import_module("slowfast.config.defaults").get_cfg()
        builder = importlib.import_module("slowfast.models.video_model_builder")
        root = Path(builder.__file__ or "").parents[2]
        config.merge_from_file(root / "configs/EPIC-KITCHENS/SLOWFAST_8x8_R50.yaml")
        if small:
            config.RESNET.WIDTH_PER_GROUP, config.DATA.CROP_SIZE = 16, 32
        return builder.SlowFast(config)
    module = importlib.import_module("models.tsm" if name.startswith("tsm") else "models.tsn")
    kind = {"tsn": "TSN", "trn": "MTRN", "tsm": "TSM"}[name[:3]]
    return getattr(module, kind)(
        num_class=397, num_segments=8, modality="RGB", base_model=f"resnet{18 if small else 50}",
        pretrained=None, partial_bn=False,
    )  # fmt: skip


def with_random_weights(network: torch.nn.Module) -> torch.nn.Module:
    """Give each vector values that matter, also those which begin as zeros or ones."""
    torch.manual_seed(0)
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point() and value.ndim < 2:
            value.add_(0.1 * torch.randn_like(value))
    network.eval()  # C1's classes return nothing here.
    return network


def saved(name: str, network: torch.nn.Module, path: Path) -> None:
    """Write a checkpoint as their training does."""
    state = network.state_dict()
    if name.startswith(("avion", "lavila")):
        state = {f"module.{key}": value for key, value in state.items()}
        content = {
            "epoch": 99,
            "state_dict": state,
            "args": argparse.Namespace(model="CLIP_VITB16"),
        }
    elif name.startswith("slowfast"):
        content = {"epoch": 30, "model_state": state, "cfg": "TRAIN: {}"}
    else:
        state = {f"model.{key}": value for key, value in state.items()}
        content = {"state_dict": state, "hyper_parameters": {"modality": "RGB"}, "epoch": 79}
    torch.save(content, path)


def compare_scores(name: str, csvs: dict[str, Path], folder: Path) -> dict[str, float]:
    """The largest difference of a log-probability, and what `adopt` took."""
    network = with_random_weights(theirs(name))
    saved(name, network, folder / "theirs.pt")
    before, since = _cpu(), time.perf_counter()
    adopting.adopt(name, folder / "theirs.pt", folder / "ours.pth", **csvs)
    figures = {"adopt_cpu_s": _cpu() - before, "adopt_s": time.perf_counter() - since}
    trained = load_model(folder / "ours.pth")
    ours, pipeline = open_foreign(trained, str(folder / "ours.pth"))
    side = published()[name].sides[1]
    count = published()[name].sampling["clip_len"]
    draw = torch.Generator().manual_seed(1)
    flat = frames_of_2d(pipeline)
    size = (2 * count, 3, side, side) if flat else (2, 3, count, side, side)
    clips = torch.randint(0, 256, size, dtype=torch.uint8, generator=draw)
    np.random.seed(0)
    with torch.inference_mode():
        here = torch.cat(list(scores_of_views(ours, [clips], 2, flat)))
    mean, std = (getattr(ours.data_preprocessor, key).tolist() for key in ("mean", "std"))
    there = _scores_of_theirs(name, network, clips, np.ravel(mean), np.ravel(std))
    sizes = list(trained.outputs.values())
    parts = [part.log_softmax(-1) for part in here.split(sizes, -1)]
    order = {tuple(map(int, text.split(":"))): n for n, text in enumerate(_actions(csvs))}
    if "pair" in trained.outputs:
        parts[0] = parts[0][:, torch.tensor(_inverse(trained.pairs, order))]
    figures["difference"] = max(
        float((a.exp() - b.exp()).abs().max()) for a, b in zip(parts, there, strict=True)
    )
    figures["log_difference"] = max(
        float((a - b).abs().max()) for a, b in zip(parts, there, strict=True)
    )
    figures["spread"] = min(float(part.std(-1).mean()) for part in there)
    figures["file_mb"] = (folder / "theirs.pt").stat().st_size / 1e6
    return figures


def _inverse(pairs: list, order: dict) -> list[int]:
    """Our output of each of their classes."""
    place = {pair[:2]: number for number, pair in enumerate(pairs)}
    return [place[pair] for pair in order]


def _scores_of_theirs(
    name: str, network: torch.nn.Module, clips: torch.Tensor, mean: np.ndarray, std: np.ndarray
) -> list[torch.Tensor]:
    """Log-probabilities of two clips, uint8, in our order of tasks."""
    at = (1, -1, *[1] * (clips.ndim - 2))
    pixels = clips.float() - torch.tensor(mean, dtype=torch.float32).view(at)
    pixels = pixels / torch.tensor(std, dtype=torch.float32).view(at)
    np.random.seed(0)
    with torch.inference_mode():
        if name.startswith("slowfast"):
            frames = pixels.shape[2]
            slow = torch.linspace(0, frames - 1, frames // 4).long()
            return [part.log() for part in network([pixels[:, :, slow], pixels])]
        if name.startswith(("tsn", "trn", "tsm")):
            scores = network(pixels.unflatten(0, (2, -1)))
            return [part.log_softmax(-1) for part in scores.split([97, 300], -1)]
        scores = network(pixels)
    if isinstance(scores, list):
        scores = [scores[2], *scores[:2]]
    return [part.log_softmax(-1) for part in (scores if isinstance(scores, list) else [scores])]


def record(names: list[str], out: Path) -> None:
    """Write the names, shapes and some scores of small networks of theirs."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from support import published_weights

    content = {}
    for name in names:
        network = theirs(name, small=True)
        prefix = "model." if published()[name].rule == "c1" else ""
        shapes = {prefix + key: list(value.shape) for key, value in network.state_dict().items()}
        tensors = published_weights.weights(shapes)
        network.load_state_dict({key.removeprefix(prefix): v for key, v in tensors.items()})
        network.eval()
        spec = adopting.network(published_weights.small(name))["data_preprocessor"]
        scores = _scores_of_theirs(
            name, network, published_weights.clips(name), spec["mean"], spec["std"]
        )
        chosen = torch.cat(scores, 1)[:, :: published_weights.EVERY]
        content[name] = {"shapes": shapes, "scores": chosen.tolist()}
    out.write_text(json.dumps(content, indent=None, separators=(",", ":")) + "\n")


def _actions(csvs: dict[str, Path]) -> list[str]:
    tables = [pd.read_csv(path) for path in csvs.values()]
    both = pd.concat(tables)
    return sorted(set(both["verb_class"].astype(str) + ":" + both["noun_class"].astype(str)))


def compare_frames(csv: Path, sheet: Path) -> dict[str, dict[str, float]]:
    """Times of their frames and of ours, in pictures of the file.

    Val has no video of the extension. So half of the rows are taken as those of one, with 50
    pictures a second and frame numbers on its clock.
    """
    videos = pd.read_csv(sheet, sep=None, engine="python").set_index("video_id")
    rows = pd.read_csv(csv)
    rows = rows.assign(fps=videos.loc[rows["video_id"], "fps"].to_numpy())
    rows = rows[(rows["fps"] - 60000 / 1001).abs() < 0.1].sample(2 * ROWS, random_state=0)
    extension = rows.iloc[ROWS:].assign(fps=50.0, video_id="P01_101")
    for end in ("start", "stop"):
        seconds = extension[f"{end}_timestamp"].map(_seconds)
        extension[f"{end}_frame"] = (seconds * 50).astype(int).clip(lower=1)
    chosen = pd.concat([rows.iloc[:ROWS], extension])
    samplers = {"avion_b": _avion, "lavila_b": _lavila, "slowfast_r50": _slowfast, "tsn_r50": _c1}
    results: dict[str, dict[str, float]] = {}
    for name, sampler in samplers.items():
        clips = 10 if name == "slowfast_r50" else 1
        step = PublishedFrames(**published()[name].sampling, num_clips=clips)
        distances, beyond = [], 0
        for row in chosen.to_dict("records"):
            ends = [_seconds(row[f"{end}_timestamp"]) for end in ("start", "stop")]
            first, last = (int(value) for value in frames_between(*ends, row["fps"]))
            sample = {"avg_fps": row["fps"], "start_index": first, "total_frames": last - first,
                      "start_seconds": ends[0], "stop_seconds": ends[1],
                      "filename": f"{row['video_id']}.MP4"}  # fmt: skip
            found = step.transform(sample)["frame_inds"]
            meant = np.asarray(sampler(row, *ends)).ravel() * row["fps"]
            inside = (meant > first - 0.5) & (meant < last - 0.5)
            beyond += int((~inside).sum())
            distances.append(np.abs(found - meant)[inside])
        every = np.concatenate(distances)
        results[name] = {
            "rows": len(chosen),
            "frames": len(every),
            "most": float(every.max()),
            "within_half": float((every <= 0.5 + 1e-6).mean()),
            "outside": beyond,
        }
    return results


def _seconds(text: str) -> float:
    hours, minutes, seconds = text.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _avion(row: dict, start: float, stop: float) -> np.ndarray:
    ids = importlib.import_module("avion.data.clip_dataset").get_frame_ids
    first, last = int(np.round(start * 30)), int(np.round(stop * 30))
    return np.array(ids(first, last, num_segments=16, jitter=False)) / 30


def _lavila(row: dict, start: float, stop: float) -> np.ndarray:
    ids = importlib.import_module("lavila.data.datasets").get_frame_ids
    first, last = int(np.round(row["fps"] * start)), int(np.ceil(row["fps"] * stop))
    return np.array(ids(first, last, num_segments=16, jitter=False)) / row["fps"]


def _slowfast(row: dict, start: float, stop: float) -> np.ndarray:
    from slowfast.datasets.decoder import get_start_end_idx
    from slowfast.datasets.epickitchens_record import EpicKitchensVideoRecord
    from slowfast.datasets.frame_loader import temporal_sampling

    record = EpicKitchensVideoRecord((row["narration_id"], row))
    times = []
    for clip in range(10):
        begin, end = get_start_end_idx(record.num_frames, 64 * record.fps / 60, clip, 10)
        files = temporal_sampling(record.num_frames, begin + 1, end + 1, 32, record.start_frame)
        times.append((files.numpy() - 1) / record.fps)
    return np.array(times)


def _c1(row: dict, start: float, stop: float) -> np.ndarray:
    dataset = importlib.import_module("datasets.tsn_dataset").TsnDataset(None, 8, test_mode=True)
    count = types.SimpleNamespace(num_frames=row["stop_frame"] - row["start_frame"] + 1)
    rate = annotation_rate(row["video_id"])
    return (row["start_frame"] + dataset._get_test_indices(count) - 1) / rate


def compare_pixels(folder: Path) -> dict[str, float]:
    """Mean distance of a value (0 to 255) of their pictures and ours, over real clips."""
    found: dict[str, list[float]] = {}
    for path in sorted(folder.glob("*.mp4")):
        reader = VideoReader(str(path))
        frames = np.linspace(0, reader.frames - 1, 8).astype(int)
        whole = reader.get_frames(frames)
        for name, high, transform in (
            ("avion_b", 320, _as_torchvision), ("lavila_b", 256, _as_torchvision),
            ("slowfast_r50", 256, _as_slowfast), ("tsn_r50", 256, _as_c1),
        ):  # fmt: skip
            model = published()[name]
            size, window = Crop("centre", model.sides[1], model.sides[0]).draw(reader.size)
            ours = reader.get_frames(frames, size, window).astype(float)
            archive = np.stack([_scaled(picture, high) for picture in whole])
            there = transform(archive, *model.sides)
            found.setdefault(name, []).append(float(np.abs(ours - there).mean()))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _scaled(picture: np.ndarray, high: int) -> np.ndarray:
    """A picture of the archive that they read: scaled by FFmpeg, with its default filter."""
    width = 2 * round(picture.shape[1] * high / picture.shape[0] / 2)
    frame = av.VideoFrame.from_ndarray(picture, "rgb24")
    return frame.reformat(width, high, interpolation="BICUBIC").to_ndarray(format="rgb24")


def _as_torchvision(pictures: np.ndarray, short: int, side: int) -> np.ndarray:
    clip = torch.from_numpy(pictures).float().permute(3, 0, 1, 2)
    steps = torchvision.transforms
    clip = steps.CenterCrop(side)(steps.Resize(short, antialias=False)(clip))
    return clip.permute(1, 2, 3, 0).numpy()


def _as_slowfast(pictures: np.ndarray, short: int, side: int) -> np.ndarray:
    transform = importlib.import_module("slowfast.datasets.transform")
    clip = torch.from_numpy(pictures).float().permute(3, 0, 1, 2)
    clip, _ = transform.random_short_side_scale_jitter(clip, short, short)
    return transform.uniform_crop(clip, side, 1)[0].permute(1, 2, 3, 0).numpy()


def _as_c1(pictures: np.ndarray, short: int, side: int) -> np.ndarray:
    from PIL import Image

    transforms = importlib.import_module("transforms")
    images = [Image.fromarray(picture) for picture in pictures]
    images = transforms.GroupCenterCrop(side)(transforms.GroupScale(short)(images))
    return np.stack([np.asarray(image) for image in images]).astype(float)


def _cpu() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def main() -> None:
    """Compare all, or record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--code", type=Path, required=True)
    parser.add_argument("--record", type=Path)
    for name in ("annotations", "sheet", "clips"):
        parser.add_argument(f"--{name}", type=Path)
    known = [name for name in published() if name != "avion_b_no_llm"]
    parser.add_argument("--only", nargs="*", default=known)
    options = parser.parse_args()
    sys.meta_path.insert(0, Empty())
    sys.path[:0] = [str(options.code / folder) for folder in FOLDERS.values()]
    if options.record:
        record(options.only, options.record)
        return
    csvs = {
        split: options.annotations / f"EPIC_100_{word}.csv"
        for split, word in (("train", "train"), ("val", "validation"))
    }
    scores = {}
    for name in options.only:
        with tempfile.TemporaryDirectory() as folder:
            scores[name] = compare_scores(name, csvs, Path(folder))
        shown = {key: float(f"{value:.3g}") for key, value in scores[name].items()}
        print(name, shown, flush=True)
    result = {
        "scores": scores,
        "classes": len(_actions(csvs)),
        "frames": compare_frames(csvs["val"], options.sheet),
        "pixels": compare_pixels(options.clips),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
