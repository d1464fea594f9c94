"""Settings of the training and its device, and the values that a sweep tries."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    field_validator,
    model_validator,
)

from epic100.settings.section import (
    AUTO,
    FileOrUrl,
    FilePath,
    Heads,
    Module,
    Section,
    Share,
    extras_of,
    key,
    like,
    similar_or_known,
    unique,
    value_of,
)


class OnDevice(Section):
    """Where a job computes."""

    device: Literal["auto", "cuda", "cpu"] = key(
        "auto",
        "a GPU if there is one; if the job was granted one (by a cluster, "
        "`CUDA_VISIBLE_DEVICES`, or the rule's `gpu` in a job) and torch cannot use it, the "
        "job fails; `cpu`: the CPU, whatever was granted",
    )
    gpus: int | None = key(
        None,
        "GPUs of a node, one process each; null: one if there is one, and one is asked for; "
        "0: the CPU; with `device: cpu` the number of processes",
        ge=0,
    )

    @model_validator(mode="after")
    def _one_device(self) -> Self:
        """Reject a GPU that is asked for and forbidden."""
        if self.device == "cuda" and self.gpus == 0:
            raise ValueError("gpus is 0 and device is cuda; set one of the two otherwise")
        return self

    @property
    def gpus_to_ask(self) -> int:
        """Number of GPUs that the job requests from its scheduler."""
        if self.device == "cpu":
            return 0
        return 1 if self.gpus is None else self.gpus


class ValidateSettings(Section):
    """Validation during training; null: as in the MMEngine config."""

    every: int | None = key(None, "after this number of epochs, and after the last", ge=1)
    segments: int | None = key(
        None, "on this number of segments, spread evenly over the val list", ge=1
    )


def _python(path: str) -> str:
    """Return the path of an MMEngine config, or raise if it is that of a config in YAML."""
    if path.endswith((".yaml", ".yml")):
        raise ValueError(f"expected an MMEngine config, NAME.py; YAML: --configfile {path}")
    return path


Recipe = Annotated[FilePath, AfterValidator(_python)]
Sha256 = Annotated[str, AfterValidator(like("[0-9a-f]{64}", "64 hexadecimal digits"))]


class TrainSettings(OnDevice):
    """Training; null: as in the MMEngine config."""

    elsewhere: ClassVar[str] = (
        "; a key of the MMEngine config goes into `options`: "
        "train.options={optim_wrapper.optimizer.lr: 0.01}"
    )
    config: Recipe = key(
        "config/x3d_s_epic_rgb_segments.py",
        "MMEngine config: model, pipelines, schedule",
        sweep=True,
        of_inputs=True,
    )
    split: Literal["train", "trainval"] = key(
        "train", "`trainval`: on train and val together, with their own pair table (below)"
    )
    load_from: FileOrUrl | None = key(
        AUTO,
        "weights to start from: a path or URL; `auto`: the ones that the MMEngine config names. "
        "Another head size is allowed, and reported",
        of_inputs=True,
    )
    load_from_sha256: Sha256 | None = key(
        None,
        "the digest of those weights, if their name has none or another one",
        of_inputs=True,
    )
    encoder: FilePath | None = key(
        None,
        "the folder of an encoder of Hugging Face, for `config/zoo/hf_*.py` (docs/training.md)",
        sweep=True,
    )
    from_scratch: bool = key(
        False, "start from random weights, even if the schedule is for fine-tuning", of_inputs=True
    )
    epochs: int | None = key(
        None, "number of epochs; schedules that end with the training follow it", sweep=True, ge=1
    )
    batch_size: int | None = key(
        None, "segments a step, over all processes and parts", sweep=True, ge=1
    )
    workers: int | None = key(
        None,
        "loader processes of each training process; null: on a CPU as in the MMEngine config, on "
        "GPUs the job's cores divided by its processes, minus one",
        ge=0,
    )
    nodes: int = key(1, "nodes of one job, each with `gpus` GPUs (docs/training.md)", ge=1)
    precision: Literal["fp32", "bf16", "fp16"] | None = key(
        None,
        "autocast on a GPU; bf16 needs an A100 or newer; null: as in the MMEngine config, and fp32 "
        "on a CPU",
        sweep=True,
    )
    channels_last: bool | None = key(
        None,
        "the layout of the backbone's weights; null: channels-last on a CPU, and on a GPU with "
        "bf16 or fp16",
    )
    compile: bool = key(False, "run the backbone through torch.compile")
    bn: Literal["local", "sync", "frozen"] = key(
        "local",
        "BatchNorm uses each process's part of the batch; `sync`: the complete batch (GPUs only); "
        "`frozen`: the statistics that it starts with, scale and shift fixed too",
        sweep=True,
    )
    accumulate: int | None = key(
        None,
        "equal parts of each batch, of which only one needs memory at a time; null: as few as "
        "`most_at_once` of the MMEngine config allows",
        ge=1,
    )
    scale_lr: bool | None = key(
        None,
        "multiply the learning rate by `batch_size` / `auto_scale_lr.base_batch_size`",
        sweep=True,
    )
    label_smoothing: Share | None = key(
        None, "share of each label that is spread over its head's classes", sweep=True
    )
    ema: float | None = key(
        None,
        "decay of a moving average of the weights, e.g. 0.9999; the average is then the model; "
        "null: none",
        sweep=True,
        gt=0,
        lt=1,
    )
    dropout: Share | None = key(None, "dropout before the last layer", sweep=True)
    heads: Heads | None = key(
        None, "what the last layer predicts: `pair`, `verb_noun`, or `both` (below)", sweep=True
    )
    seed: int = key(0, "seed of initial weights, order, augmentation and dropout", sweep=True, ge=0)
    # The field has an alias, since a model of pydantic has a method called `validate`.
    validation: ValidateSettings = key(ValidateSettings(), "on what, and when", alias="validate")
    options: dict[str, Annotated[Any, BeforeValidator(value_of)]] = key(
        {},
        "any other key of the MMEngine config, dotted, applied last: "
        '`{"optim_wrapper.optimizer.lr": 0.01}`; a likely typo is rejected, other errors end the '
        "trial",
        sweep=True,
    )

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        """Reject start weights together with a random start."""
        if self.from_scratch and self.load_from not in (None, AUTO):
            raise ValueError(
                f"`train: from_scratch:` is true, but `load_from:` is {self.load_from!r}; expected "
                "one of the two"
            )
        return self

    @property
    def gpus_to_ask(self) -> int:
        """Number of GPUs that the job requests from its scheduler, on all nodes."""
        return self.nodes * super().gpus_to_ask

    def begun_with(self, config: str, weights: str | None) -> Self:
        """Return these settings with the files that a run has found for them.

        `from_scratch` is then False, since `weights` already says whether the start is random.

        Args:
            config: The MMEngine config file.
            weights: The file of the start weights; None for random ones.
        """
        return self.model_copy(
            update={"config": config, "load_from": weights, "from_scratch": False}
        )

    @property
    def resources_of_nodes(self) -> dict[str, int | str]:
        """The resources that a job over several nodes requests besides GPUs: one task per node.

        With `mpi`, the executor runs the job's command on the first node only, and the command
        starts the others. Without `tasks_per_gpu: 0`, the executor would count `tasks` per GPU.
        """
        if self.nodes == 1:
            return {}
        return {"mpi": "yes", "nodes": self.nodes, "tasks": self.nodes, "tasks_per_gpu": 0}


class Modules(Section):
    """Models and pipeline steps of your own, for training and prediction (below)."""

    folder: FilePath | None = key(
        None, "folder that the modules are in; it comes last on Python's import path"
    )
    imports: Annotated[list[Module], AfterValidator(unique)] = key(
        [], "modules to import, which register their classes"
    )


class Sweep(Section):
    """Values to try: a run in results/runs for each combination of them (below)."""

    train: dict[str, Any] = key(
        {},
        "lists of values of keys of `train` that change what is learned; of `options` too, a list "
        "for each key",
    )

    @field_validator("train")
    @classmethod
    def _lists(cls, grid: dict[str, Any]) -> dict[str, Any]:
        """Reject unknown keys, and values that are no list. `options` has a list for each option.

        The values themselves are checked with the training of each run.
        """
        known = [
            name for name, field in TrainSettings.model_fields.items() if extras_of(field)["sweep"]
        ]
        for name, values in grid.items():
            if name not in known:
                raise ValueError(f"unknown key {name!r}{similar_or_known(name, known)}")
            has_options = name == "options" and isinstance(values, dict)
            for each in values.values() if has_options else [values]:
                if not isinstance(each, list) or not each:
                    raise ValueError(f"{name} is {each!r}; expected a list of values")
                unique(each)
        return grid

    def axes(self) -> dict[str, list[Any]]:
        """Return the values of each key and option, in alphabetical order of their last names."""
        keys = {name: values for name, values in self.train.items() if name != "options"}
        axes = value_of(keys | self.train.get("options", {}))
        return dict(sorted(axes.items(), key=lambda axis: (axis[0].rpartition(".")[2], axis[0])))
