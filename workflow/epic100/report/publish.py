"""What a lab gives away: a model in a folder for a model hub, which names no folder of the lab."""

import json
import os
from pathlib import Path

from safetensors.torch import save

from epic100.base.atomic import atomic_path, write_text
from epic100.base.disk import read_json, read_text
from epic100.base.errors import EpicError
from epic100.model.model_file import TrainedModel, digest, load_model, save_model
from epic100.report.model_card import shared, without_folders
from epic100.segments.official_lists import DATA_SET

METRICS = "metrics.json"
# These files are beside a model. The keys are their names in the published folder.
BESIDE = {"README.md": "model_card.md", "metafile.yml": "metafile.yml", METRICS: METRICS}
DROPPED = "dropped.tsv"
SUMS = "SHA256SUMS"
# A model hub reads this at the top of a card.
HUB = "---\nlicense: {license}\ntags: [action-recognition{tag}]\n---\n\n"
OFFICIAL = """\
The weights learned from the annotations of EPIC-KITCHENS-100 (Damen et al., IJCV 2022), which are
CC BY-NC 4.0, University of Bristol: no commercial use, and name them.
"""
OWN = "The weights learned from {data}; its owner says what holds for them.\n"
LICENSES = """\
{of_data}\
Start of the training: {start}. Where that is a file of weights, its license holds as well.
The workflow that made them is Apache-2.0. The videos are not in here.
"""


def publish(model: str | os.PathLike, out: str | os.PathLike) -> None:
    """Write a model with its card and figures into a new folder, for a model hub or a release.

    It has the weights as `model.pth` and `model.safetensors`, the rest of the model file as
    `config.json`, the card as `README.md`, figures, the segments that were left out, notes on
    licenses, and the SHA-256 of each file.

    Args:
        model: The model file of a run; its card and figures are beside it.
        out: The folder to make.

    Raises:
        EpicError: A file of the run is missing, or the folder exists.
    """
    source, folder = Path(model), Path(out)
    if folder.exists():
        raise EpicError(f"{folder}: is there already; expected the name of a new folder")
    trained = shared(load_model(source))
    # The table of dropped segments is results/clean/dropped.tsv. A model is in results/ or, two
    # folders below, in results/runs/NAME/.
    dropped_paths = [parent / "clean" / DROPPED for parent in list(source.absolute().parents)[:3]]
    files = {name: source.parent / file for name, file in BESIDE.items()}
    files[DROPPED] = next((path for path in dropped_paths if path.is_file()), dropped_paths[0])
    for path in files.values():
        if not path.is_file():
            raise EpicError(f"{path}: is missing; make it with `epic100 run`, then publish again")
    save_model(trained, folder / "model.pth")
    figures = without_folders(read_json(files[METRICS]))
    data = DATA_SET if "published" in trained.trained_on else figures["data"]
    is_official = data == DATA_SET
    hub = HUB.format(
        license="cc-by-nc-4.0" if is_official else "unknown",
        tag=", epic-kitchens-100" if is_official else "",
    )
    # The published model has another digest than the run's, since its config names no folder.
    old_digest, new_digest = digest(source), digest(folder / "model.pth")
    for name, path in files.items():
        head = hub if name == "README.md" else ""
        write_text(folder / name, head + read_text(path).replace(old_digest, new_digest))
    # This replaces the copy that the loop wrote, which may name folders.
    write_text(folder / METRICS, json.dumps(figures, indent=2) + "\n")
    licenses = LICENSES.format(
        start=trained.trained_on.get("load_from") or "random weights",
        of_data=OFFICIAL if is_official else OWN.format(data=data),
    )
    write_text(folder / "LICENSES.txt", licenses)
    _write_plain(trained, folder)
    sums = [f"{digest(path)}  {path.name}\n" for path in sorted(folder.iterdir())]
    write_text(folder / SUMS, "".join(sums))


def _write_plain(trained: TrainedModel, folder: Path) -> None:
    """Write the weights as safetensors and the rest of the model file as JSON."""
    # Safetensors refuses tensors that share memory or are not contiguous, so it gets copies.
    weights = {name: value.clone().contiguous() for name, value in trained.state_dict.items()}
    with atomic_path(folder / "model.safetensors") as temporary:
        temporary.write_bytes(save(weights, {"format": "pt"}))
    fields = {key: value for key, value in vars(trained).items() if key != "state_dict"}
    write_text(folder / "config.json", json.dumps(fields, indent=1))
