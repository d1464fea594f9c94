"""Convert a lab's MMAction2 checkpoint and pair order to `model.pth`, for predict and export.

A checkpoint is a pickle, which can run code when it is loaded. Here it is loaded with torch's
`weights_only`. What MMEngine 0.10 stores beside the weights (HistoryBuffer, NumPy scalars, even
`getattr`) is ignored.
"""

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mmengine.registry import init_default_scope

from epic100.base.errors import EpicError
from epic100.base.foreign_tensors import named_tensors, read_foreign
from epic100.base.torch_file import read_tensors
from epic100.migrate.lab_config import predicting_config, read_config
from epic100.migrate.pair_order import Pair
from epic100.model.foreign import build_foreign, clean_model, clean_pipeline, parse_config
from epic100.model.model_file import TrainedModel, save_model, test_pipeline_of


def read_checkpoint(path: str | os.PathLike, allow_pickle: bool = False) -> tuple[dict, dict]:
    """Read an MMAction2 checkpoint or a bare state_dict.

    Args:
        path: The checkpoint.
        allow_pickle: Load any object, which runs code from the file. Otherwise objects that are
            neither tensors nor plain Python are dropped.

    Returns:
        Weights by name on the CPU, without the prefix `module.` of distributed training, and
        `meta`.

    Raises:
        EpicError: The file is not a checkpoint, or cannot be loaded without `allow_pickle`.
    """
    what = ("readable as a checkpoint", "expected a .pth of MMAction2")
    content = (
        read_tensors(path, *what, allow_pickle=True)
        if allow_pickle
        else read_foreign(
            path,
            *what,
            weights_alone=True,
            code_remedy="add --allow-pickle if you trust where it comes from",
        )
    )
    meta = content.get("meta", {}) if isinstance(content, dict) else {}
    # Copies: torch.save would write the whole storage of a view into the model file.
    tensors = {name: t.detach().clone().contiguous() for name, t in named_tensors(content).items()}
    if not tensors:
        raise EpicError(f"{path}: no weights in it; expected `state_dict` of an MMAction2 model")
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
    allow_pickle: bool = False,
) -> list[str]:
    """Convert a checkpoint to a file like `results/model.pth`.

    Args:
        checkpoint: The lab's checkpoint.
        out: The model file to write.
        pairs: (verb, noun) of each output of the head.
        counts: Training segments by pair, for the prior of segments without a readable video;
            without them, all pairs are equally likely.
        config: The lab's MMEngine config; None takes the one in the checkpoint.
        num_verbs: Number of verb classes.
        num_nouns: Number of noun classes.
        allow_pickle: See `read_checkpoint`.

    Returns:
        What was done, in lines for people.

    Raises:
        EpicError: Weights, config and pairs do not fit each other.
    """
    weights, meta = read_checkpoint(checkpoint, allow_pickle)
    if config is None and not isinstance(meta.get("cfg"), str):
        raise EpicError(f"{checkpoint}: holds no config of MMAction2 1.x; give it with --config")
    where = str(config or f"config in {checkpoint}")
    instead = "give the config file with --config"
    lab = read_config(config) if config else parse_config(meta["cfg"], where, instead)
    ours, notes = predicting_config(lab, where)
    import epic100.clips.dataset  # noqa: F401  (its steps)

    init_default_scope("mmaction")
    cleaned = clean_model(ours.model.to_dict(), where)
    clean_pipeline(test_pipeline_of(ours, where), where)
    outputs = ours.model.cls_head.num_classes
    if outputs != len(pairs):
        raise EpicError(
            f"{where}: the head has {outputs} outputs, the pair order {len(pairs)} pairs; expected "
            "the very list, or table, that the labels of this training were made from"
        )
    build_foreign(cleaned, weights, where, checkpoint)
    ours.model = cleaned.spec
    counted = [(verb, noun, counts[verb, noun] if counts else 1) for verb, noun in pairs]
    trained_on = {
        "split": "train",
        "segments": counts.total() if counts else None,
        "epochs": _number(meta.get("epoch")),
        "seed": _number(meta.get("seed")),
        "load_from": str(checkpoint),
    }
    save_model(
        TrainedModel(weights, counted, num_verbs, num_nouns, ours.to_dict(), trained_on), out
    )
    prior = f"the {counts.total()} segments of the train list" if counts else "no count, all alike"
    return [
        f"{out}: {len(weights)} weights, {len(pairs)} verb-noun pairs, "
        f"epoch {trained_on['epochs']}",
        f"prior of segments without a readable video: {prior}",
        *notes,
    ]


def _number(value: Any) -> int | None:
    """Return an integer from a checkpoint, or None for anything else."""
    return value if type(value) is int and abs(value) < 2**53 else None
