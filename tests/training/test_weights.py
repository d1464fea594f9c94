import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from torch import nn

from epic100.base.errors import EpicError
from epic100.training.weights import fit_weights, local_weights


def net(classes=5):
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, classes))


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder that is served over HTTP, and its URL; torch's cache is a folder of its own."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_another_head_is_named_with_both_sizes(tmp_path):
    state = {f"module.{name}": value for name, value in net(400).state_dict().items()}
    torch.save({"state_dict": state, "meta": {"epoch": 3}}, tmp_path / "k400.pth")
    fit = fit_weights(tmp_path / "k400.pth", net(5))
    assert (fit.taken, fit.wanted) == (7, 9)
    assert fit.line() == (
        "7 of 9 tensors; trained anew: 2.weight (400x3 there, 5x3 here), 2.bias (400 there, 5 here)"
    )


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize("content, words", [
    (b"hello", "not weights that can be loaded safely .*expected a checkpoint of tensors"),
    (b"", "not weights that can be loaded safely"),
    (Evil(), r"not weights that can be loaded safely \(holds print besides tensors"),
    ({"epoch": 3}, "holds no tensors by name"),
    ({"state_dict": [1]}, "holds no tensors by name"),
    (nn.Conv2d(1, 1, 3).state_dict(), "weights of another model: 0 of its 2 tensors fit the 9 of "),
])  # fmt: skip
def test_what_is_no_weights_of_this_model_is_one_line_and_runs_nothing(
    tmp_path, capsys, content, words
):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(EpicError, match=rf"^{path}: {words}") as caught:
        fit_weights(path, net())
    assert "\n" not in str(caught.value)
    assert "code ran" not in capsys.readouterr().out


def test_a_url_is_fetched_once_and_checked_against_the_hash_in_its_name(server):
    folder, url = server
    torch.save(net().state_dict(), folder / "x.pth")
    digest = hashlib.sha256((folder / "x.pth").read_bytes()).hexdigest()[:8]
    (folder / "x.pth").rename(folder / f"x-{digest}.pth")
    path = local_weights(f"{url}/x-{digest}.pth")
    assert fit_weights(path, net()).taken == 9
    (folder / f"x-{digest}.pth").rename(folder / "x-00000000.pth")
    assert local_weights(f"{url}/x-{digest}.pth") == path
    for name, words in (("x-00000000.pth", "invalid hash value"), ("none.pth", "404")):
        with pytest.raises(EpicError, match=rf"^{url}/{name}: cannot be fetched .*{words}"):
            local_weights(f"{url}/{name}")


def test_weights_that_are_not_there_are_named():
    with pytest.raises(EpicError, match="^weights/k400.pth: no such weights; `train: load_from:`"):
        local_weights("weights/k400.pth")
