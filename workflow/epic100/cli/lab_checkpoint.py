"""Convert a lab's MMAction2 checkpoint to `model.pth`: `epic100 migrate model`.

docs/migration.md describes the command.

A checkpoint is a pickle, which can run code when it is loaded. Here it is loaded with torch's
`weights_only`. What MMEngine 0.10 stores next to the weights (HistoryBuffer, NumPy scalars, even
`getattr`) is ignored. Of the config, the model and the clips are taken, read by our own steps.

A checkpoint does not say which verb-noun pair each output of its head means. That comes from a text
file, or from the train list that the lab made its table from.
"""

import argparse
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import epic100.clips.dataset  # noqa: F401  (registers the steps in `OURS`)
from epic100.base.disk import read_text
from epic100.base.errors import BrokenFile, EpicError, whole_number
from epic100.base.untrusted_tensors import named_tensors, read_untrusted, require_finite
from epic100.data.segment_list import NO_LABEL, read_segments
from epic100.model.mmaction_import import Config
from epic100.model.model_file import TrainedModel, save_model, test_pipeline_of
from epic100.model.untrusted import build_untrusted, clean_model, clean_pipeline, parse_config
from epic100.model.views import sampling_of

# These steps open a video, and the steps of the next line decode its frames. A lab that reads
# segments of complete videos has its own steps, since MMAction2's DecordInit takes the video as the
# segment.
OPENERS = ("DecordInit", "PyAVInit", "OpenCVInit", "OpenSegment")
DECODERS = ("DecordDecode", "PyAVDecode", "OpenCVDecode", "DecodeSegment")
SAMPLERS = ("SampleFrames", "UniformSample")
# These steps stay as they are.
UNCHANGED = ("Resize", "CenterCrop", "FormatShape")
# These steps are replaced by one of ours.
OURS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(OPENERS, {"type": "OpenSegment", "decoder": "pyav"}),
    **dict.fromkeys(DECODERS, {"type": "DecodeSegment"}),
    "PackActionInputs": {
        "type": "PackActionInputs",
        "meta_keys": ("img_shape", "narration_id", "verb", "noun", "num_clips"),
    },
}
Pair = tuple[int, int]


def run(options: argparse.Namespace) -> int:
    """Write a lab's checkpoint as a model file of the workflow; return 0."""
    if not options.pairs and not options.train_list:
        raise EpicError(
            "model: nothing says what the outputs stand for; give --pairs or --train-list"
        )
    counts = None
    if options.train_list:
        pairs, counts = pairs_in_output_order(options.train_list, options.order)
    # The option --pairs replaces the order of the train list, whose counts stay.
    if options.pairs:
        pairs = read_pair_order(options.pairs)
    lines = migrate_model(
        options.checkpoint,
        options.out,
        pairs,
        counts=counts,
        config=options.config,
        num_verbs=options.num_verbs,
        num_nouns=options.num_nouns,
    )
    print("\n".join(lines))
    return 0


def read_checkpoint(path: str | os.PathLike) -> tuple[dict, dict]:
    """Read a checkpoint of MMAction2, PySlowFast, Lightning or plain torch, or a bare state_dict.

    Objects that are neither tensors nor plain values are ignored.

    Args:
        path: The checkpoint.

    Returns:
        Weights by name on the CPU, without the prefix `module.` of distributed training; and the
        dict `meta` of MMEngine, {} if there is none.

    Raises:
        EpicError: The file is not a checkpoint.
    """
    content = read_untrusted(
        path, "readable as a checkpoint", "expected a .pth of MMAction2", weights_alone=True
    )
    tensors = named_tensors(content)
    if not tensors:
        raise BrokenFile(f"{path}: no weights in it; expected `state_dict` of an MMAction2 model")
    meta = content.get("meta") if isinstance(content, dict) else None
    return tensors, meta if isinstance(meta, dict) else {}


def migrate_model(
    checkpoint: str | os.PathLike,
    out: str | os.PathLike,
    pairs: Sequence[Pair],
    *,
    counts: Counter | None = None,
    config: str | os.PathLike | None = None,
    num_verbs: int = 97,
    num_nouns: int = 300,
) -> list[str]:
    """Convert a lab's checkpoint to a model file like `results/model.pth`.

    Args:
        checkpoint: The lab's checkpoint.
        out: The model file to write.
        pairs: (verb, noun) of each output of the head.
        counts: Number of training segments of each pair, for the prior of segments without a
            readable video; None: all pairs are equally likely.
        config: The lab's MMEngine config; None takes the one in the checkpoint.
        num_verbs: Number of verb classes.
        num_nouns: Number of noun classes.

    Returns:
        Lines for the screen about the model file.

    Raises:
        EpicError: Weights, config and pairs are not of the same model, or a weight is not finite.
    """
    weights, meta = read_checkpoint(checkpoint)
    require_finite(checkpoint, weights)

    # The config of the option, or else the one in the checkpoint, becomes one for `predict`.
    if config:
        where, lab_config = str(config), read_config(config)
    elif isinstance(meta.get("cfg"), str):
        where = f"config in {checkpoint}"
        lab_config = parse_config(meta["cfg"], where, "give the config file with --config")
    else:
        raise EpicError(f"{checkpoint}: holds no config of MMAction2 1.x; give it with --config")
    predict_config, notes = predicting_config(lab_config, where)

    # Model, steps, pairs and weights must fit together. Only the model without keys that would load
    # files is used of these results.
    cleaned = clean_model(predict_config["model"], where)
    clean_pipeline(test_pipeline_of(predict_config, where), where)
    outputs = predict_config["model"]["cls_head"]["num_classes"]
    if outputs != len(pairs):
        raise EpicError(
            f"{where}: the head has {outputs} outputs, the pair order {len(pairs)} pairs; expected "
            "the very list, or table, that the labels of this training were made from"
        )
    build_untrusted(cleaned, weights, where, checkpoint)
    predict_config["model"] = cleaned.spec

    # The model file. Without counts, all pairs are equally likely.
    segments, prior = None, "no count, all alike"
    pairs_with_counts = [(verb, noun, 1) for verb, noun in pairs]
    if counts:
        segments = counts.total()
        prior = f"the {segments} segments of the train list"
        pairs_with_counts = [(verb, noun, counts[verb, noun]) for verb, noun in pairs]
    trained_on = {
        "split": "train",
        "segments": segments,
        "epochs": _int_or_none(meta.get("epoch")),
        "seed": _int_or_none(meta.get("seed")),
        "load_from": str(checkpoint),
    }
    save_model(
        TrainedModel(weights, pairs_with_counts, num_verbs, num_nouns, predict_config, trained_on),
        out,
    )
    epoch = trained_on["epochs"]
    return [
        f"{out}: {len(weights)} weights, {len(pairs)} verb-noun pairs, epoch {epoch}",
        f"prior of segments without a readable video: {prior}",
        *notes,
    ]


def _int_or_none(value: Any) -> int | None:
    """Return an integer of a checkpoint as it is, and None for any other or a huge value."""
    return value if type(value) is int and abs(value) < 2**53 else None


def read_config(path: str | os.PathLike) -> dict[str, Any]:
    """Read an MMEngine config file and its bases. The config is Python, and its code is run.

    Modules in its `custom_imports` are not imported.

    Raises:
        EpicError: MMEngine cannot read the config.
    """
    if not Path(path).is_file():
        raise EpicError(f"{path}: no such MMAction2 config; correct --config")
    try:
        return Config.fromfile(path, import_custom_modules=False).to_dict()
    except Exception as error:  # A config is a program and can raise anything.
        raise EpicError(
            f"{path}: not readable as an MMEngine config ({type(error).__name__}: {error}); give "
            "the complete one that MMEngine wrote into the work dir"
        ) from error


def predicting_config(lab: dict[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """Make a config for the rule predict from the model and the test pipeline of a lab's config.

    Args:
        lab: The lab's config.
        where: Start of error messages.

    Returns:
        The config, and notes for the screen. The notes say which of the lab's own steps were taken
        for opening or decoding, and how many clips and crops the lab's test had. The pipeline has
        one clip and one crop; more are set with `predict:` in the workflow's config.

    Raises:
        EpicError: The config has another form, or a step that has no counterpart here.
    """
    # The config is one of MMAction2 1.x.
    if "test_dataloader" not in lab or "model" not in lab:
        is_older = "data" in lab
        hint = "; this is one of MMAction2 0.x, rewrite it in the form of 1.x" if is_older else ""
        raise EpicError(f"{where}: expected `model` and `test_dataloader` of MMAction2 1.x{hint}")
    try:
        outputs = lab["model"]["cls_head"]["num_classes"]
    except (KeyError, TypeError):
        outputs = None
    if type(outputs) is not int:
        raise EpicError(f"{where}: model has no cls_head.num_classes; expected one head over pairs")
    # Its test pipeline has the steps that a prediction needs.
    steps = test_pipeline_of(lab, where)
    translated, notes = _translate(steps, where)
    step_types = {step["type"] for step in translated}
    needed = {"OpenSegment", "DecodeSegment", "PackActionInputs"}
    if not needed <= step_types or step_types.isdisjoint(SAMPLERS):
        steps_text = ", ".join(step["type"] for step in steps) or "empty"
        raise EpicError(
            f"{where}: its test pipeline is {steps_text}; expected an opening step, SampleFrames "
            "or UniformSample, a decoding step and PackActionInputs"
        )
    # Its views are a note, since the new pipeline has one clip and one crop.
    crops = 3 if "ThreeCrop" in [step["type"] for step in steps] else 1
    notes.append(
        "its own test had these views; for the same, put into the workflow's config "
        f"`predict: {{clips: {sampling_of(steps).clips}, crops: {crops}}}`"
    )
    return config_of(lab["model"], translated), notes


def config_of(model: dict[str, Any], pipeline: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make an MMEngine config with the keys that the rule predict needs.

    Args:
        model: The `model` of the config.
        pipeline: The steps of the test pipeline.
    """
    dataset = {
        "type": "EpicSegmentVideoDataset",
        "data_root": "",
        "ann_file": "",
        "pairs": None,
        "test_mode": True,
        "pipeline": list(pipeline),
    }
    return {
        "custom_imports": {"imports": ["epic100.mmaction"], "allow_failed_imports": False},
        "default_scope": "mmaction",
        "model": model,
        "test_dataloader": {"dataset": dataset},
    }


def _translate(
    steps: Sequence[dict[str, Any]], where: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """Convert a test pipeline to this workflow's steps, with notes for the screen.

    A lab has its own steps to open videos and decode frames. So an unknown step just before the
    sampling step is taken for one that opens a video. An unknown step just after it is taken for
    one that decodes, if `Decode` is in its name. Each of these steps gets a note.
    """
    samplers = [position for position, step in enumerate(steps) if step["type"] in SAMPLERS]
    translated, notes = [], []
    for position, step in enumerate(steps):
        step_type = name = step["type"]
        # Number of steps from the sampling step to this one; None without a sampling step.
        distance = position - samplers[0] if samplers else None
        if name not in OURS and distance == -1:
            step_type = OPENERS[0]  # Any step that opens a video becomes the same step of ours.
        elif name not in OURS and distance == 1 and "Decode" in name:
            step_type = DECODERS[0]
        if step_type != name:
            notes.append(f"{name} was taken for the lab's own {step_type}")
        translated.append(_translate_step(step_type, step, where))
    return translated, notes


def _translate_step(step_type: str, step: dict[str, Any], where: str) -> dict[str, Any]:
    """Convert one step of a test pipeline, which is taken for a step of `step_type`, to ours."""
    if step_type in OURS:
        return OURS[step_type]
    if step_type in SAMPLERS:
        # In a sparse step, `num_clips` is the number of frames of the only clip.
        changes = {} if sampling_of([step]).sampling_type == "sparse" else {"num_clips": 1}
        return {**step, **changes, "test_mode": True}
    if step_type == "ThreeCrop":  # This makes one crop; `predict: crops: 3` gives three.
        return {"type": "CenterCrop", "crop_size": step.get("crop_size")}
    if step_type in UNCHANGED:
        return step
    raise EpicError(
        f"{where}: step {step_type} of the test pipeline has no counterpart; expected "
        f"{', '.join((*OPENERS, *SAMPLERS, *DECODERS, *UNCHANGED, 'ThreeCrop'))} or "
        "PackActionInputs"
    )


def read_pair_order(path: str | os.PathLike) -> list[Pair]:
    """Read the verb-noun pair of each output from a text file, one line per output, in order.

    A line is `0 12`: verb 0, noun 12. The numbers are separated by spaces, tabs, commas or
    semicolons; a header is optional.

    Returns:
        (verb, noun) by output.

    Raises:
        EpicError: A line has another form; the message names it.
    """
    expected = "`verb noun` a line, in the order of the outputs"
    try:
        lines = read_text(path, "utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError, BrokenFile) as error:
        raise EpicError(f"{path}: cannot be read as text ({error}); expected {expected}") from error
    pairs: list[Pair] = []
    for number, line in enumerate(lines, start=1):
        # e.g. "0, 12" -> "0", "12"
        fields = re.split(r"[\s,;]+", line.strip())
        is_header = not pairs and not any(field.isdigit() for field in fields)
        if fields == [""] or is_header:
            continue
        # A field that is no number becomes None.
        class_ids = [whole_number(field) for field in fields]
        if len(class_ids) != 2 or class_ids[0] is None or class_ids[1] is None:
            raise EpicError(f"{path}: line {number}: {line.strip()[:80]!r}; expected {expected}")
        pairs.append((class_ids[0], class_ids[1]))
    if not pairs:
        raise EpicError(f"{path}: 0 pairs; expected {expected}")
    (verb, noun), count = Counter(pairs).most_common(1)[0]
    if count > 1:
        raise EpicError(
            f"{path}: verb {verb} with noun {noun} is there twice; expected each pair once, "
            "since each is an output of the head"
        )
    return pairs


def pairs_in_output_order(path: str | os.PathLike, order: str) -> tuple[list[Pair], Counter]:
    """Read the verb-noun pairs of a train list, in the order of the outputs, and their counts.

    Args:
        path: The list, five or six fields per line.
        order: `sorted` by verb, then noun; or `first-seen`, in order of appearance in the list.

    Returns:
        (verb, noun) by output, and the number of segments of each pair.

    Raises:
        EpicError: No line has a verb and a noun.
    """
    table = read_segments(path)
    table = table[(table["verb"] != NO_LABEL) & (table["noun"] != NO_LABEL)]
    counts = Counter(zip(table["verb"].tolist(), table["noun"].tolist(), strict=True))
    if not counts:
        raise EpicError(f"{path}: no line with a verb and a noun; expected a train list")
    # A Counter keeps its keys in the order in which they were first counted.
    return (sorted(counts) if order == "sorted" else list(counts)), counts
