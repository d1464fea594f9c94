"""Train an attentive probe on stored tokens, choose its learning rate, and predict with it.

Probes of several learning rates and weight decays are trained on the same batches. A training that
was stopped resumes from its last saved state.
"""

import hashlib
import itertools
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from epic100.base.errors import EpicError
from epic100.base.gpu import unusable
from epic100.base.log import Progress
from epic100.base.torch_file import read_tensors, write_tensors
from epic100.features.tokens import Tokens, read_tokens
from epic100.model.model_file import TrainedModel, digest, load_model, output_sizes, save_model
from epic100.model.registered import OutputsLoss
from epic100.model.views import mean_log_probs
from epic100.prediction.encoder import clip_pipeline
from epic100.prediction.hugging_face import HuggingFaceEncoder
from epic100.prediction.predict import predictions_of
from epic100.prediction.probe_model import PROBE_TYPE, AttentiveProbe, build_probe
from epic100.scoring.epoch_table import ACCURACIES, Row, write_epochs, write_trials
from epic100.scoring.pair_metric import FIGURES, PREFIX, EpicPairMetric
from epic100.scoring.predictions import write_predictions
from epic100.segments.pairs import read_pairs
from epic100.segments.segment_list import read_clean_list
from epic100.settings import ProbeSettings

log = logging.getLogger(__name__)

# A forward pass in validation and prediction takes this many segments.
SEGMENTS_PER_PASS = 256
# One video of this number of train's videos is held back: a tenth. The segments of the videos held
# back choose among several rates and decays.
ONE_HELD_BACK_OF = 10
# Every tenth epoch is validated, and the last one too.
VALIDATE_EVERY = 10
# The state is saved after the last epoch, and at most once in this time before.
SAVE_SECONDS = 60.0


@dataclass
class Trial:
    """A probe in training, with one learning rate and one weight decay.

    Attributes:
        probe: The probe.
        lr: The learning rate at the start.
        weight_decay: The weight decay.
        history: The rows of the probe's table of epochs, one per finished epoch.
    """

    probe: AttentiveProbe
    lr: float
    weight_decay: float
    history: list[Row] = field(default_factory=list)

    def __str__(self) -> str:
        """Name the trial by its rate and decay: `lr 0.001, decay 0.1`."""
        return f"lr {self.lr:g}, decay {self.weight_decay:g}"


def train_probe(
    settings: ProbeSettings,
    model_path: str | os.PathLike,
    history_path: str | os.PathLike,
    trials_path: str | os.PathLike,
    *,
    split: str,
    segments: str | os.PathLike,
    val: str | os.PathLike,
    pairs: str | os.PathLike,
    indexes: Sequence[str | os.PathLike],
    classes: tuple[int, int],
    names: dict[str, dict[int, str]],
    folder: str | None = None,
) -> None:
    """Train a probe on the tokens of a clean list.

    Several rates and decays are tried together. With `choose: train`, a tenth of the videos is held
    back, and a probe with the rate and decay that do best on it is trained on all videos.

    On a CPU, the result depends only on features, list, settings and the number of torch's threads.
    If the training was stopped, the next call resumes it and ends with identical weights.

    Args:
        settings: The `probe:` section.
        model_path: The model file to write.
        history_path: The table of epochs to write (`scoring.epoch_table`).
        trials_path: The table of epochs of all rates and decays to write.
        split: The split that the probe learns from, train or trainval.
        segments: The clean list of this split.
        val: The clean list of val, which is used for validation only.
        pairs: The pair table.
        indexes: The indexes of the rule tokens.
        classes: Numbers of verb and noun classes.
        names: Class names for the model file.
        folder: The folder of the encoder `hf`, if that encoder gave the features.

    Raises:
        EpicError: The list has no segment, or the tokens cannot be collected.
    """
    if why := unusable(settings.device):
        raise EpicError(f"probe: torch cannot compute on {settings.device}: {why}")
    table = read_clean_list(segments)
    if table.empty:
        raise EpicError(f"{segments}: no segment in it to learn from; see dropped.tsv beside it")
    tokens = read_tokens(table, indexes, source=None)
    # The segments of val are part of trainval, so a probe of trainval is not validated on them.
    val_table = read_clean_list(val) if split == "train" else table[:0]
    val_tokens = (
        read_tokens(val_table, indexes, tokens.source) if len(val_table) else tokens.part([])
    )
    pair_table = read_pairs(pairs)
    labels = _pair_ids(table, pair_table)
    sizes = output_sizes(settings.heads, len(pair_table), *classes)
    loss = OutputsLoss(pair_table, settings.heads, *classes, smoothing=settings.label_smoothing)
    metric = EpicPairMetric(str(pairs), *classes, heads=settings.heads)
    states_folder = Path(model_path).with_suffix(".states")
    means = tokens.mean_and_std[0].tolist()

    def train(
        trials: list[Trial], train_rows: np.ndarray, val_tokens: Tokens, val_table: pd.DataFrame
    ) -> None:
        """Train trials on the segments with these row numbers, and validate on other segments."""
        # The saved state has the accuracies of the validation, so its name depends on `val_table`.
        lists = (table.iloc[train_rows].to_csv(), val_table.to_csv(), pair_table, sizes)
        name = _state_name(settings, tokens.source, means, *map(str, trials), *lists)
        validate = partial(_accuracies, metric, val_tokens, val_table, sizes)
        segments = (tokens.part(train_rows), labels[train_rows])
        fit(trials, *segments, loss, settings, validate, state=states_folder / name)

    new_trial = partial(_new_trial, settings, tokens, sum(sizes.values()))
    grid = itertools.product(_as_list(settings.lr), _as_list(settings.weight_decay))
    trials = [new_trial(lr, decay) for lr, decay in grid]
    row_numbers = np.arange(len(table))
    # A single trial is not chosen on any split.
    chosen_on = settings.choose if len(trials) > 1 else ""
    if chosen_on == "val" and not val_tokens.rows:
        raise EpicError(f"probe: no segment of val is left by {split}; set `choose: train`")
    if chosen_on == "train":
        is_held_back = _in_held_back_videos(table["path"], settings.seed)
        held_back = row_numbers[is_held_back]
        train(trials, row_numbers[~is_held_back], tokens.part(held_back), table.iloc[held_back])
        chosen = _best(trials)
        # The chosen trial was not trained on the held-back videos, so a new one is trained on all.
        best = new_trial(chosen.lr, chosen.weight_decay)
        train([best], row_numbers, val_tokens, val_table)
    else:
        train(trials, row_numbers, val_tokens, val_table)
        best = _best(trials)
    trained_on = {"split": split, "segments": len(table), "load_from": tokens.source["load_from"]}
    trained_on |= _how_trained(settings, chosen_on, len(trials))
    weights = {name: value.detach().cpu() for name, value in best.probe.state_dict().items()}
    config = _config(settings, tokens.source, best, HuggingFaceEncoder(folder) if folder else None)
    model = TrainedModel(weights, pair_table, *classes, config, trained_on, settings.heads, names)
    save_model(model, model_path)
    write_trials({str(trial): trial.history for trial in trials}, trials_path)
    write_epochs(best.history, history_path)
    shutil.rmtree(states_folder, ignore_errors=True)


def _how_trained(settings: ProbeSettings, chosen_on: str, trials: int) -> dict[str, Any]:
    """State for the model file how a probe was trained, and out of how many it was chosen."""
    return {
        "epochs": settings.epochs,
        "seed": settings.seed,
        "chosen_on": chosen_on,
        "chosen_of": trials,
    }


def predict_probe(
    model_path: str | os.PathLike,
    segments: str | os.PathLike,
    out: str | os.PathLike,
    *,
    split: str,
    indexes: Sequence[str | os.PathLike],
) -> None:
    """Predict every segment of a clean list with a probe, and write the predictions file.

    Args:
        model_path: The model file of `train_probe`.
        segments: The clean list.
        out: The file to write.
        split: Name of the split.
        indexes: The indexes of the rule tokens.

    Raises:
        EpicError: The model is no probe, or it learned from tokens of another source.
    """
    trained = load_model(model_path)
    probe, source = build_probe(trained), trained.config.get("features")
    if probe is None or not isinstance(source, dict):
        raise EpicError(
            f"{model_path}: a model, but no probe; expected one of the rule probe_train"
        )
    table = read_clean_list(segments)
    scores = torch.empty(0, sum(trained.outputs.values()))
    if len(table):
        scores = _log_probs(probe, read_tokens(table, indexes, source), trained.outputs)
    if not scores.isfinite().all():
        raise EpicError(f"{model_path}: gives NaN or infinity; train the probe again")
    ids = table["narration_id"].tolist()
    write_predictions(predictions_of(split, ids, scores, trained, digest(model_path)), out)
    log.info(f"{out}: {len(ids)} segments")


def _new_trial(
    settings: ProbeSettings, tokens: Tokens, outputs: int, lr: float, weight_decay: float
) -> Trial:
    """Build an untrained probe, whose weights are the same for all rates and decays."""
    torch.manual_seed(settings.seed)
    mean, std = tokens.mean_and_std
    probe = AttentiveProbe(len(mean), outputs, settings.dropout, settings.kind)
    probe.load_state_dict({"mean": mean, "std": std}, strict=False)
    return Trial(probe, lr, weight_decay)


def _as_list(value: float | list[float]) -> list[float]:
    """Return a list of the config, or a list of its single value."""
    return value if isinstance(value, list) else [value]


def _best(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the best top-1 action accuracy after the last epoch."""
    return max(trials, key=lambda trial: trial.history[-1]["action_top1"] or 0.0)


def _in_held_back_videos(paths: pd.Series, seed: int) -> np.ndarray:
    """Draw the videos that are held back, a tenth rounded up, and return their segments' mask.

    Args:
        paths: The path of the video of each segment.
        seed: The seed of the draw.

    Returns:
        bool [N], True for each segment of a video that is held back.

    Raises:
        EpicError: There is a single video.
    """
    videos = np.sort(paths.unique())
    if len(videos) < 2:
        raise EpicError(
            "probe: several rates or decays, but train has one video, so that none can be held "
            "back; give one of each, or `choose: val`"
        )
    count = math.ceil(len(videos) / ONE_HELD_BACK_OF)
    return paths.isin(np.random.default_rng(seed).permutation(videos)[:count]).to_numpy()


def _log_probs(probe: AttentiveProbe, tokens: Tokens, sizes: dict[str, int]) -> Tensor:
    """Compute the log-probabilities of all outputs for N segments, float32 [N, outputs]."""
    probe.eval()
    batches = tokens.batches(range(len(tokens.rows)), SEGMENTS_PER_PASS, probe.mean.device)
    with torch.inference_mode():
        log_probs = [
            mean_log_probs(probe(feats, padded), sizes, len(numbers))
            for numbers, feats, padded in batches
        ]
    return torch.cat(log_probs)


def _accuracies(
    metric: EpicPairMetric,
    tokens: Tokens,
    segments: pd.DataFrame,
    sizes: dict[str, int],
    probe: AttentiveProbe,
) -> dict[str, float | None]:
    """Validate a probe on segments; return its accuracies by column of the table of epochs.

    Args:
        metric: The metric, which is used for all validations of a training.
        tokens: The tokens of the segments.
        segments: The rows of the segments in their clean list.
        sizes: Number of outputs of each task (`output_sizes`).
        probe: The probe.

    Returns:
        The accuracies in percent; {} if there is no segment.
    """
    if not tokens.rows:
        return {}
    scores = _log_probs(probe, tokens, sizes).exp()
    # The metric adds the results of each call, so those of the last validation are removed.
    metric.results.clear()
    labelled = zip(scores, segments["verb"], segments["noun"], strict=True)
    metric.process(
        data_batch=None,
        data_samples=[
            {"pred_score": row, "verb": verb, "noun": noun} for row, verb, noun in labelled
        ],
    )
    figures = metric.compute_metrics(metric.results)
    # `FIGURES` has the names that MMEngine logs, which begin with `epic/`. The names that
    # `compute_metrics` returns do not.
    return {column: figures[name.removeprefix(f"{PREFIX}/")] for column, name in FIGURES.items()}


def _config(
    settings: ProbeSettings, source: dict[str, Any], best: Trial, folder: HuggingFaceEncoder | None
) -> dict[str, Any]:
    """Write the settings as an MMEngine config, whose differences `epic100 compare` can list."""
    config: dict[str, Any] = {
        "model": {
            "type": PROBE_TYPE,
            "kind": settings.kind,
            "dropout": settings.dropout,
            "label_smoothing": settings.label_smoothing,
            "backbone": {"type": source["load_from"] or source["encoder"]},
        },
        "features": source,
        "train_dataloader": {"batch_size": settings.batch_size, "dataset": {"pipeline": []}},
        "train_cfg": {"max_epochs": settings.epochs},
        "optim_wrapper": {
            "optimizer": {"type": "AdamW", "lr": best.lr, "weight_decay": best.weight_decay}
        },
        "randomness": {"seed": settings.seed},
    }
    # With these entries, `predict` can run the encoder on clips, and the probe on the tokens.
    if folder is not None:
        config["encoder"] = {"path": str(folder.folder), "license": folder.license}
        config["test_dataloader"] = {"dataset": {"pipeline": clip_pipeline(folder)}}
    return config


def _pair_ids(table: pd.DataFrame, pair_table: list[tuple[int, int, int]]) -> Tensor:
    """Look up the pair id of each segment, int64 [N]."""
    id_of_pair = {(verb, noun): pair for pair, (verb, noun, _) in enumerate(pair_table)}
    pairs = zip(table["verb"], table["noun"], strict=True)
    return torch.tensor([id_of_pair[pair] for pair in pairs])


def _state_name(*values: Any) -> str:
    """Return the file name of a saved state: a digest of all that the training depends on."""
    return f"{hashlib.sha256(repr(values).encode()).hexdigest()}.pt"


def fit(
    trials: list[Trial],
    tokens: Tokens,
    labels: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    settings: ProbeSettings,
    accuracies: Callable[[AttentiveProbe], Mapping[str, float | None]],
    state: Path,
) -> None:
    """Train the probes of all trials together, on the same batches.

    If a training was stopped, the next call resumes from `state` and ends with identical weights.

    Args:
        trials: The untrained probes. The trained weights and the table of epochs of each probe are
            stored in its trial.
        tokens: The tokens of N segments.
        labels: The pair ids of the segments, int64 [N].
        loss: Computes the loss from logits and labels.
        settings: The `probe:` section.
        accuracies: Validates a probe and returns its accuracies by column of the table of epochs.
        state: The file of the saved state, which a training with other arguments must not share.
            The caller removes it when it has stored the result.

    Raises:
        EpicError: A loss is NaN or infinite.
    """
    batches = math.ceil(len(labels) / settings.batch_size)
    # A learner is the probe, the optimizer and the schedule of a trial. They all have `state_dict`.
    learners: list[tuple[Any, ...]] = []
    for trial in trials:
        weights = trial.probe.to(settings.device).parameters()
        optimizer = torch.optim.AdamW(weights, trial.lr, weight_decay=trial.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, batches * settings.epochs)
        learners.append((trial.probe, optimizer, schedule))
    epochs_done = _load_state(state, trials, learners)
    bar = Progress("train the probe", (settings.epochs - epochs_done) * len(labels), "segments")
    last_save = time.monotonic()
    for epoch in range(epochs_done + 1, settings.epochs + 1):
        # Each epoch has its own seed, so the state of the generator need not be saved. No training
        # has 100,003 epochs, so epochs of different settings never get the same seed.
        torch.manual_seed(settings.seed * 100_003 + epoch)
        started = time.monotonic()
        last_rate, totals = _train_epoch(learners, tokens, labels, loss, settings, bar)
        # All trials have the same schedule, so their rates have fallen to the same share by now.
        rate_factor = last_rate / trials[0].lr
        seconds = max(time.monotonic() - started, 1e-9)
        is_last = epoch == settings.epochs
        for trial, total in zip(trials, totals, strict=True):
            # `total < inf` is False for NaN, and `total >= inf` would be False, too.
            if not total < float("inf"):
                raise EpicError(
                    f"epoch {epoch}: the loss is NaN or infinite with {trial}; set a lower "
                    "`probe: lr:`"
                )
            figures = accuracies(trial.probe) if is_last or epoch % VALIDATE_EVERY == 0 else {}
            trial.history.append(
                {
                    **dict.fromkeys(ACCURACIES),
                    **figures,
                    "epoch": epoch,
                    "iter": epoch * batches,
                    "lr": trial.lr * rate_factor,
                    "loss": total / batches,
                    "data_share": 0.0,
                    "samples_per_s": len(labels) / seconds,
                    "seconds": seconds,
                }
            )
        if is_last or time.monotonic() - last_save > SAVE_SECONDS:
            states = [[member.state_dict() for member in learner] for learner in learners]
            write_tensors([states, [trial.history for trial in trials]], state)
            last_save = time.monotonic()
    bar.close()


def _train_epoch(
    learners: list[tuple[Any, ...]],
    tokens: Tokens,
    labels: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    settings: ProbeSettings,
    bar: Progress,
) -> tuple[float, list[float]]:
    """Train the probes of all learners on all segments once, in random order.

    Args:
        learners: The probe, the optimizer and the schedule of each trial.
        tokens: The tokens of N segments.
        labels: The pair ids of the segments, int64 [N].
        loss: Computes the loss from logits and labels.
        settings: The `probe:` section.
        bar: The progress display of trained segments.

    Returns:
        The learning rate of the first learner in the last batch; and for each learner, the sum of
        the losses of all batches.
    """
    last_rate = 0.0
    totals = [0.0] * len(learners)
    order = torch.randperm(len(labels)).tolist()
    for segment_rows, feats, padded in tokens.batches(order, settings.batch_size, settings.device):
        # The rate is read before the schedules change it.
        _, _, schedule = learners[0]
        last_rate = schedule.get_last_lr()[0]
        losses = _step(learners, feats, padded, labels[segment_rows].to(settings.device), loss)
        totals = [total + value for total, value in zip(totals, losses, strict=True)]
        bar.update(len(segment_rows))
    return last_rate, totals


def _step(
    learners: list[tuple[Any, ...]],
    feats: Tensor,
    padded: Tensor,
    labels: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
) -> list[float]:
    """Train the probes of all learners on one batch, and return their losses.

    Args:
        learners: The probe, the optimizer and the schedule of each trial.
        feats: The tokens of the segments of the batch, [B, T, C].
        padded: Whether a token only fills up a shorter segment, bool [B, T].
        labels: The pair ids of the segments, int64 [B].
        loss: Computes the loss from logits and labels.
    """
    losses = []
    for probe, optimizer, schedule in learners:
        probe.train()
        with torch.autocast(feats.device.type, torch.bfloat16, feats.device.type == "cuda"):
            scores = probe(feats, padded)
        # The scores may be bfloat16, but the loss is computed in float32.
        batch_loss = loss(scores.float(), labels)
        optimizer.zero_grad()
        batch_loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(batch_loss.item())
    return losses


def _load_state(state: Path, trials: list[Trial], learners: list[tuple[Any, ...]]) -> int:
    """Load the saved state into trials and learners, and return its number of epochs, or 0."""
    if not state.is_file():
        return 0
    states, histories = read_tensors(state, what="the state of a probe", remedy=f"remove {state}")
    for trial, learner, learner_states, history in zip(
        trials, learners, states, histories, strict=True
    ):
        trial.history = history
        for member, member_state in zip(learner, learner_states, strict=True):
            member.load_state_dict(member_state)
    # All trials have the same number of epochs, so any history will do.
    log.info(f"{state}: going on after epoch {len(history)}")
    return len(history)
