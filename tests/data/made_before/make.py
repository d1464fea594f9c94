"""Made the files beside this script, with the library of commit ee4fdab; see README.md.

PYTHONPATH=OLD/workflow python make.py OLD/demo
"""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch
from epic100.model_file import HEAD_WEIGHT, load_model, save_model

from epic100.prediction.shards import Shards
from epic100.proxy.encoder import ProxySettings
from epic100.training.checkpoints import read_checkpoint, write_checkpoint

HERE, DEMO = Path(__file__).parent, Path(sys.argv[1])
SMALL = 1000  # values; larger tensors are left out


def small(values: dict) -> dict:
    """The small tensors among `values`, and all that is no tensor."""
    return {k: v for k, v in values.items() if getattr(v, "nelement", lambda: 0)() <= SMALL}


results = DEMO / "results"
model = load_model(results / "model.pth")
weights = dict(list(small(model.state_dict).items())[:20])
weights[HEAD_WEIGHT] = model.state_dict[HEAD_WEIGHT]
save_model(replace(model, state_dict=weights), HERE / "model.pth")

(newest,) = results.glob("work_dirs/*/iter_640.pth")
state = read_checkpoint(newest)
optimizer = {k: small(v) for k, v in state["optimizer"]["state"].items()}
state["optimizer"]["state"] = dict(list(optimizer.items())[:4])
state["state_dict"] = dict(list(small(state["state_dict"]).items())[:12])
state["rank_states"] = []  # of random generators, 5 kB each
write_checkpoint(HERE / "iter_640.pth", state, keep=1)

shutil.copy(results / "predictions/val.pt", HERE)
torch.save(torch.load(results / "submission.pt", weights_only=True)[:3], HERE / "submission.pt")
shutil.copy(next(results.glob("scan/cache/P22/P22_02.*.npz")), HERE / "P22_02.scan.npz")
for name in ("scan/P22.index.npz", "scan/P22.tsv", "clean/dropped.tsv", "training.tsv"):
    shutil.copy(results / name, HERE)

shards = Shards(HERE / "val.pt", "run")
shards.write("P22/P22_02.MP4", "stamp", torch.arange(24.0).reshape(3, 8).log_softmax(1))
shutil.copy(shards.path("P22/P22_02.MP4"), HERE / "shard.pt")
shutil.rmtree(shards.folder)

copy, notes = HERE / "P22_02.MP4", HERE / "P22_02.proxy.npz"
command = [sys.executable, "-m", "epic100.proxy.encoder", DEMO / "videos/P22/P22_02.MP4", copy]
command += [notes, "--index", results / "scan/P22.index.npz", "--key", "a key"]
command += ["--settings", json.dumps(asdict(ProxySettings(height=32)))]
subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
copy.unlink()
