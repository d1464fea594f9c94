"""The trained model as one file: weights, pair table, class counts and config.

The file has only tensors and plain Python types, so `torch.load(..., weights_only=True)` reads it.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, FailFast, Field
from torch import Tensor

from epic100.base import disk
from epic100.base.checked import STRICT, Count, conforming
from epic100.base.errors import EpicError
from epic100.base.torch_file import write_tensors
from epic100.base.untrusted_tensors import read_untrusted

FORMAT = "epic100 model 2"
# For each value of `train: heads:`, the outputs of the last layer score these tasks, in order.
OUTPUTS = {"pair": ("pair",), "verb_noun": ("verb", "noun"), "both": ("pair", "verb", "noun")}
# The number of verbs and of nouns is limited, since each of them gets a score for every segment.
MAX_CLASSES = 10_000

# This limits the characters of a config, in JSON. A complete config has about 10,000.
LONGEST_CONFIG = 500_000
Value = TypeVar("Value", bound=Any)


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """Return a dict that JSON can write; raise ValueError for any other, or for a very long one."""
    try:
        if len(json.dumps(value)) <= LONGEST_CONFIG:
            return value
    except (TypeError, ValueError, RecursionError) as error:  # It has another type or a cycle.
        raise ValueError(f"expected texts, numbers, lists and dicts alone ({error})") from error
    raise ValueError(f"expected at most {LONGEST_CONFIG} characters")


Classes = Annotated[int, Field(gt=0, le=MAX_CLASSES)]
Heads = Annotated[str, Field(pattern=f"^({'|'.join(OUTPUTS)})$")]
Task = Annotated[str, Field(pattern="^(verb|noun)$")]
Name = Annotated[str, Field(max_length=200)]
Plain = Annotated[dict[str, Any], AfterValidator(_plain)]
Pairs = Annotated[list[tuple[Count, Count, Count]], FailFast()]


def output_sizes(heads: str, pairs: int, verbs: int, nouns: int) -> dict[str, int]:
    """Count the outputs of the last layer for pairs, verbs and nouns, in their order.

    Args:
        heads: A key of `OUTPUTS`.
        pairs: Number of pairs in the pair table.
        verbs: Number of verb classes.
        nouns: Number of noun classes.

    Returns:
        The numbers by task, for the tasks of these heads: `{"verb": 97, "noun": 300}`.

    Raises:
        EpicError: `heads` is no key of `OUTPUTS`.
    """
    if heads not in OUTPUTS:
        raise EpicError(f"`heads` is {heads!r}; expected one of {', '.join(OUTPUTS)}")
    sizes = {"pair": pairs, "verb": verbs, "noun": nouns}
    return {task: sizes[task] for task in OUTPUTS[heads]}


def split_outputs(scores: Tensor, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """Split the scores of all outputs into scores of pairs, of verbs and of nouns.

    Args:
        scores: Floats [..., all outputs].
        sizes: The result of `output_sizes`.

    Returns:
        The scores [..., outputs of the task] by task: "pair", "verb" and "noun".
    """
    scores_of_tasks = scores.split(list(sizes.values()), dim=-1)
    return dict(zip(sizes, scores_of_tasks, strict=True))


@dataclass(frozen=True)
class TrainedModel:
    """The content of a model file: a trained model with all that is needed to use it.

    Attributes:
        state_dict: Weights by name.
        pairs: (verb, noun, count in training) by pair id, in the order of the head's outputs.
        num_verbs: Number of verb classes.
        num_nouns: Number of noun classes.
        config: The MMEngine config.
        trained_on: Split, number of segments, epochs, seed and start weights of the training.
        heads: The tasks of the outputs of the last layer, a key of `OUTPUTS`.
        names: Class names by id, for "verb" and for "noun". A class may have no name.
    """

    state_dict: dict[str, Tensor]
    pairs: Pairs
    num_verbs: Classes
    num_nouns: Classes
    config: Plain
    trained_on: Plain
    heads: Heads = "pair"
    names: Mapping[Task, Mapping[int, Name]] = field(default_factory=dict)

    __pydantic_config__ = STRICT

    @property
    def outputs(self) -> dict[str, int]:
        """The numbers of outputs for pairs, verbs and nouns, as `output_sizes` counts them."""
        return output_sizes(self.heads, len(self.pairs), self.num_verbs, self.num_nouns)


def save_model(model: TrainedModel, path: str | os.PathLike) -> None:
    """Write a model file, `results/model.pth`, atomically.

    Raises:
        EpicError: A field of the model is not as `TrainedModel` defines it.
    """
    write_tensors({"format": FORMAT, **vars(checked_content(model, path, "train"))}, path)


def digest(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a model file in hex, by which predictions name their model."""
    return disk.digest(path, "sha256").value


def digest_of(models: str | os.PathLike | Sequence[str]) -> str:
    """Return the digest of one model file, or the joint digest of several averaged models."""
    if isinstance(models, (str, os.PathLike)):
        return digest(models)
    return joint_digest([digest(path) for path in models])


def joint_digest(digests: Sequence[str]) -> str:
    """Combine digests, in this order, into one. A single digest is returned unchanged."""
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def load_model(path: str | os.PathLike) -> TrainedModel:
    """Read a model file that `save_model` wrote.

    Whether the pair table belongs to the weights is not checked before the model predicts.

    Raises:
        EpicError: The file is not a model of this version.
    """
    content = read_untrusted(
        path,
        what="a model that this workflow wrote",
        remedy="expected results/model.pth of the rule train, complete; train again or restore "
        "the file",
    )
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise EpicError(
            f"{path}: a checkpoint, but not a finished model of this version ({FORMAT!r}); "
            "checkpoints of a running training are in results/work_dirs and hold no pair table; a "
            "model of another version must be trained again; for one of MMAction2: epic100 migrate "
            "model"
        )
    names = [entry.name for entry in fields(TrainedModel)]
    if missing := [name for name in names if name not in content]:
        raise EpicError(
            f"{path}: a model without {', '.join(missing)}; expected results/model.pth as the "
            "rule train writes it; train again"
        )
    return checked_content(TrainedModel(**{name: content[name] for name in names}), path, "train")


def checked_content(content: Value, path: str | os.PathLike, rule: str) -> Value:
    """Check the content of a model file or a predictions file: the types of fields, and the pairs.

    Args:
        content: A dataclass with the config `STRICT`, and `pairs`, `num_verbs` and `num_nouns`.
        path: The file, for errors.
        rule: The rule that writes such files, for errors.

    Returns:
        The content.

    Raises:
        EpicError: A field has another type or is outside its range, or the pairs are not valid.
    """
    try:
        content = conforming(content)
    except ValueError as error:
        raise EpicError(f"{path}: {error}; expected what the rule {rule} writes") from error
    for pair, (verb, noun, _) in enumerate(content.pairs):
        if verb >= content.num_verbs or noun >= content.num_nouns:
            raise EpicError(
                f"{path}: its pair {pair} is verb {verb}, noun {noun}; expected verbs up to "
                f"{content.num_verbs - 1}, nouns up to {content.num_nouns - 1}"
            )
    if len({(verb, noun) for verb, noun, _ in content.pairs}) < len(content.pairs):
        raise EpicError(f"{path}: it has a pair twice; expected what the rule {rule} writes")
    return content


def test_pipeline_of(config: Any, where: str | os.PathLike) -> list[dict[str, Any]]:
    """Return the test pipeline of a config: its `test_dataloader.dataset.pipeline`.

    Args:
        config: The config.
        where: Start of the error message.

    Raises:
        EpicError: The pipeline is no list of steps, each with its `type`.
    """
    section: Any = config
    for key in ("test_dataloader", "dataset", "pipeline"):
        section = section.get(key) if hasattr(section, "get") else None
    if not isinstance(section, list | tuple) or not all(
        isinstance(step, Mapping) and isinstance(step.get("type"), str) for step in section
    ):
        raise EpicError(
            f"{where}: its test pipeline is no list of steps, each with its `type`; correct it"
        )
    return list(section)
