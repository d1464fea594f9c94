"""Train an attentive probe on stored tokens, choose among several, and predict with it.

Several rates and decays are trained over the same pass, which goes on where it was stopped.
"""

import hashlib
import itertools
import logging
import os
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
from epic100.base.folders import remove_folder
from epic100.base.gpu import unusable
from epic100.base.log import Progress
from epic100.base.torch_file import read_tensors, write_tensors
from epic100.features.tokens import Tokens, read_tokens
from epic100.model.model_file import TrainedModel, digest, load_model, output_sizes, save_model
from epic100.model.registered import OutputsLoss
from epic100.model.views import mean_log_probs
from epic100.prediction.encoder import clip_pipeline
from epic100.prediction.hugging_face import HuggingFaceFolder
from epic100.prediction.predict import predictions_of
from epic100.prediction.probe_model import KIND, AttentiveProbe, built_probe
from epic100.scoring.epoch_table import ACCURACIES, Row, write_epochs, write_trials
from epic100.scoring.pair_metric import FIGURES, EpicPairMetric
from epic100.scoring.predictions import write_predictions
from epic100.segments.pairs import read_pairs
from epic100.segments.segment_list import read_clean_list
from epic100.settings import ProbeSettings

log = logging.getLogger(__name__)

# A forward pass without gradients takes so many segments.
AT_ONCE = 256
# One video in ten of train is held back. These videos choose among several rates and decays.
HELD_BACK = 10
# It counts epochs; the last one is validated too.
VALIDATE_EVERY = 10
# The state is saved no more often than this, and after the last epoch.
SAVE_SECONDS = 60.0


@dataclass
class Trial:
    """A probe in training.

    Attributes:
        probe: The probe.
        lr: Its learning rate at the start.
        weight_decay: Its decay.
        history: The rows of its table of epochs.
    """

    probe: AttentiveProbe
    lr: float
    weight_decay: float
    history: list[Row] = field(default_factory=list)

    def __str__(self) -> str:
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

    Several rates and decays are trained over the same pass. With `choose: train` a tenth of the
    videos is held back and chooses; the chosen one is then trained on all.

    On a CPU, the result follows from features, list, settings and the number of torch's threads
    alone. A stopped call goes on where it was, to equal weights.

    Args:
        settings: The `probe:` section.
        model_path: The model file to write.
        history_path: The table of epochs to write (`scoring.epoch_table`).
        trials_path: The table of epochs of all rates and decays to write.
        split: What is learned from, train or trainval.
        segments: Its clean list.
        val: The clean list of val, which is looked at only.
        pairs: The pair table.
        indexes: The indexes of the rule tokens.
        classes: Numbers of verb and noun classes.
        names: Class names for the model file.
        folder: The folder of the encoder `hf`, if that gave the features.

    Raises:
        EpicError: No segment to learn from, or the tokens cannot be collected.
    """
    if why := unusable(settings.device):
        raise EpicError(f"probe: torch cannot compute on {settings.device}: {why}")
    table = read_clean_list(segments)
    if table.empty:
        raise EpicError(f"{segments}: no segment in it to learn from; see dropped.tsv beside it")
    rows = read_tokens(table, indexes, None)
    val_table = read_clean_list(val) if split == "train" else table[:0]
    val_rows = read_tokens(val_table, indexes, rows.source) if len(val_table) else rows.part([])
    pair_table = read_pairs(pairs)
    id_of_pair = {(verb, noun): pair for pair, (verb, noun, _) in enumerate(pair_table)}
    labels = torch.tensor(
        [id_of_pair[pair] for pair in zip(table["verb"], table["noun"], strict=True)]
    )
    sizes = output_sizes(settings.heads, len(pair_table), *classes)
    loss = OutputsLoss(pair_table, settings.heads, *classes, smoothing=settings.label_smoothing)
    metric = EpicPairMetric(str(pairs), *classes, heads=settings.heads)
    states_folder = Path(model_path).with_suffix(".states")

    def train(trials: list[Trial], learned: np.ndarray, seen: Tokens, truth: pd.DataFrame) -> None:
        look = partial(_accuracies, metric, seen, truth, sizes)
        # The figures of val are stored too, so a state is also of the segments that give them.
        facts = [settings, rows.source, rows.mean_and_std[0].tolist(), *map(str, trials)]
        lists = [table.iloc[learned].to_csv(), truth.to_csv(), pair_table, sizes]
        key = hashlib.sha256(repr((facts, lists)).encode()).hexdigest()
        state = states_folder / f"{key}.pt"
        fit(trials, rows.part(learned), labels[learned], loss, settings, look, state)

    begun = partial(_begun, settings, rows, sum(sizes.values()))
    grid = [*itertools.product(_listed(settings.lr), _listed(settings.weight_decay))]
    trials, numbers = [begun(*rate_and_decay) for rate_and_decay in grid], np.arange(len(table))
    chosen_on = settings.choose if len(grid) > 1 else ""
    if chosen_on == "val" and not val_rows.rows:
        raise EpicError(f"probe: no segment of val is left by {split}; set `choose: train`")
    if chosen_on == "train":
        held_back = _held_back(table["path"], settings.seed)
        train(trials, numbers[~held_back], rows.part(numbers[held_back]), table[held_back])
        chosen = _best(trials)
        best = begun(chosen.lr, chosen.weight_decay)
        train([best], numbers, val_rows, val_table)
    else:
        train(trials, numbers, val_rows, val_table)
        best = _best(trials)
    trained_on = {
        "split": split,
        "segments": len(table),
        "epochs": settings.epochs,
        "seed": settings.seed,
        "load_from": rows.source["load_from"],
        "chosen_on": chosen_on,
        "chosen_of": len(grid),
    }
    state = {key: value.detach().cpu().clone() for key, value in best.probe.state_dict().items()}
    config = _config(settings, rows.source, best, HuggingFaceFolder(folder) if folder else None)
    save_model(
        TrainedModel(state, pair_table, *classes, config, trained_on, settings.heads, names),
        model_path,
    )
    write_trials({str(trial): trial.history for trial in trials}, trials_path)
    write_epochs(best.history, history_path)
    remove_folder(states_folder)


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
        EpicError: It is no probe, or the features are not of the source that it learned from.
    """
    trained = load_model(model_path)
    probe, source = built_probe(trained), trained.config.get("features")
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


def _begun(
    settings: ProbeSettings, rows: Tokens, outputs: int, lr: float, weight_decay: float
) -> Trial:
    """A probe with its first weights, which are the same for all rates and decays."""
    torch.manual_seed(settings.seed)
    mean, std = rows.mean_and_std
    probe = AttentiveProbe(len(mean), outputs, settings.dropout, settings.kind)
    probe.load_state_dict({"mean": mean, "std": std}, strict=False)
    return Trial(probe, lr, weight_decay)


def _listed(value: float | list[float]) -> list[float]:
    return value if isinstance(value, list) else [value]


def _best(trials: Sequence[Trial]) -> Trial:
    """The one with the best top-1 actions at the end; the first of equal ones."""
    return max(trials, key=lambda trial: trial.history[-1]["action_top1"] or 0.0)


def _held_back(paths: pd.Series, seed: int) -> np.ndarray:
    """Which segments are of the held-back videos, bool [N]."""
    videos = np.sort(paths.unique())
    if len(videos) < 2:
        raise EpicError(
            "probe: several rates or decays, but train has one video, so that none can be held "
            "back; give one of each, or `choose: val`"
        )
    count = -(-len(videos) // HELD_BACK)
    return paths.isin(np.random.default_rng(seed).permutation(videos)[:count]).to_numpy()


def _log_probs(probe: AttentiveProbe, rows: Tokens, sizes: dict[str, int]) -> Tensor:
    """Log-probabilities of all outputs, float32 [N, outputs]."""
    probe.eval()
    batches = rows.batches(range(len(rows.rows)), AT_ONCE, probe.mean.device)
    with torch.inference_mode():
        log_probs = [
            mean_log_probs(probe(rows, padded), sizes, len(numbers))
            for numbers, rows, padded in batches
        ]
    return torch.cat(log_probs)


def _accuracies(
    metric: EpicPairMetric,
    rows: Tokens,
    listed: pd.DataFrame,
    sizes: dict[str, int],
    probe: AttentiveProbe,
) -> dict[str, float | None]:
    """Top-1 and top-5 of some segments by the names of the table of epochs."""
    if not rows.rows:
        return {}
    scores = _log_probs(probe, rows, sizes).exp()
    metric.results.clear()
    truth = zip(scores, listed["verb"], listed["noun"], strict=True)
    metric.process(None, [{"pred_score": s, "verb": v, "noun": n} for s, v, n in truth])
    figures = metric.compute_metrics(metric.results)
    return {column: figures[name.partition("/")[2]] for column, name in FIGURES.items()}


def _config(
    settings: ProbeSettings, source: dict[str, Any], best: Trial, folder: HuggingFaceFolder | None
) -> dict[str, Any]:
    """The settings in the form of an MMEngine config, so that `compare` lists what differs."""
    config: dict[str, Any] = {
        "model": {
            "type": KIND,
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
    # Without these entries, the probe cannot be shown clips.
    if folder is not None:
        config["encoder"] = {"path": str(folder.folder), "license": folder.license}
        config["test_dataloader"] = {"dataset": {"pipeline": clip_pipeline(folder)}}
    return config


def fit(
    trials: list[Trial],
    rows: Tokens,
    labels: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    settings: ProbeSettings,
    accuracies: Callable[[AttentiveProbe], Mapping[str, float | None]],
    state: Path,
) -> None:
    """Train all probes over the same pass. A stopped call goes on to equal weights.

    Args:
        trials: The probes, with their first weights.
        rows: The tokens of the segments.
        labels: Their pair ids, int64 [N].
        loss: The loss of logits and labels.
        settings: The `probe:` section.
        accuracies: What the table of epochs says of a probe that is validated.
        state: Where the state is kept. Its name says all that the result follows from. The caller
            removes it when it has the result.

    Raises:
        EpicError: A loss is NaN or infinite.
    """
    batches, device = -(-len(labels) // settings.batch_size), settings.device
    learners: list[tuple[Any, ...]] = []
    for trial in trials:
        weights = trial.probe.to(device).parameters()
        optimizer = torch.optim.AdamW(weights, trial.lr, weight_decay=trial.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, batches * settings.epochs)
        learners.append((trial.probe, optimizer, schedule))
    epochs_done = _resumed(state, trials, learners)
    bar = Progress("train the probe", (settings.epochs - epochs_done) * len(labels), "segments")
    saved = time.monotonic()
    for epoch in range(epochs_done + 1, settings.epochs + 1):
        # Each epoch has a seed of its own, so a save needs no state of the generator.
        torch.manual_seed(settings.seed * 100_003 + epoch)
        started, totals, rate_factor = time.monotonic(), [0.0] * len(trials), 1.0
        order = torch.randperm(len(labels)).tolist()
        for numbers, feats, padded in rows.batches(order, settings.batch_size, device):
            batch_labels = labels[numbers].to(device)
            for number, (probe, optimizer, schedule) in enumerate(learners):
                probe.train()
                with torch.autocast(device, torch.bfloat16, device == "cuda"):
                    scores = probe(feats, padded)
                batch_loss = loss(scores.float(), batch_labels)
                optimizer.zero_grad()
                batch_loss.backward()
                optimizer.step()
                rate_factor = schedule.get_last_lr()[0] / trials[number].lr
                schedule.step()
                totals[number] += batch_loss.item()
            bar.update(len(numbers))
        seconds = max(time.monotonic() - started, 1e-9)
        is_last = epoch == settings.epochs
        for trial, total in zip(trials, totals, strict=True):
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
        if is_last or time.monotonic() - saved > SAVE_SECONDS:
            states = [[member.state_dict() for member in learner] for learner in learners]
            write_tensors([states, [trial.history for trial in trials]], state)
            saved = time.monotonic()
    bar.close()


def _resumed(state: Path, trials: list[Trial], parts: list[tuple[Any, ...]]) -> int:
    """Go back to the state of this same training, if there is one; returns its epochs."""
    if not state.is_file():
        return 0
    states, histories = read_tensors(state, "the state of a probe", f"remove {state}")
    for trial, learner, learner_states, history in zip(
        trials, parts, states, histories, strict=True
    ):
        trial.history = history
        for member, member_state in zip(learner, learner_states, strict=True):
            member.load_state_dict(member_state)
    log.info(f"{state}: going on after epoch {len(history)}")
    return len(history)
