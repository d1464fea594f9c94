"""Imports of the library go down its layers, as docs/architecture.md draws them."""

import ast
import itertools
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from inspect import signature
from pathlib import Path
from pkgutil import resolve_name

import pytest

from support.checkout import ROOT

PACKAGE = ROOT / "workflow" / "epic100"
# The rows go from the top down. Parts of one row do not know each other.
ROWS = re.findall(
    r"(?m)^\| (`\w+`(?:, `\w+`)*) \|", (ROOT / "docs/architecture.md").read_text("utf-8")
)
LAYERS = [re.findall(r"\w+", row) for row in reversed(ROWS)]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """The pairs (module, name) that a file imports from this package, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield from ((node.module or "", alias.name) for alias in node.names)


def edges(path: Path) -> set[tuple[str, str]]:
    """The pairs (importing part, imported part) of a file's imports."""
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    found = {module.split(".")[1] for module, _ in imports(path) if module.startswith("epic100.")}
    return {(own, other) for other in found if other != own}


def test_every_part_of_the_package_has_a_layer():
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert parts - {"__init__", "__pycache__"} == set(LEVEL)
    # Python needs `__init__` and `__main__` here, and configs name `epic100.mmaction`.
    assert len(list(PACKAGE.glob("*.py"))) <= 4, "modules belong into a folder"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_from_lower_layers_and_nothing_private(path):
    up = [(a, b) for a, b in edges(path) if LEVEL[b] >= LEVEL[a]]
    assert not up, "an import goes up or sideways"
    private = [
        f"{module}.{name}"
        for module, name in imports(path)
        if module.startswith("epic100.") and (name.startswith("_") or "._" in module)
    ]
    assert not private


def test_no_file_imports_itself_by_way_of_others():
    files = {
        f"epic100.{'.'.join(path.relative_to(PACKAGE).with_suffix('').parts)}".removesuffix(
            ".__init__"
        ): path
        for path in MODULES
    }
    imported = {
        file: {
            f"{module}.{name}" if f"{module}.{name}" in files else module
            for module, name in imports(path)
        }
        for file, path in files.items()
    }
    TopologicalSorter(imported).prepare()


def test_the_parts_are_few_and_know_few_others():
    assert len(set(itertools.chain.from_iterable(map(edges, MODULES)))) <= 103


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_function_is_longer_than_a_reader_can_hold(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            begin = node.body[bool(ast.get_docstring(node)) :] or node.body
            assert node.end_lineno - begin[0].lineno < 60, node.name


# Only the named modules may use what only Linux has, or import decord. None may read videos with
# OpenCV, or start Python with the working folder on its path.
WORDS = {
    r"os\.sched_|resource\.prlimit|signal\.sigwaitinfo|signal\.sigtimedwait|/proc/": {
        "base/machine.py"
    },
    r"cv2\.VideoCapture": set(),
    r"import decord|from decord": {"clips/transforms.py"},
    # Its ranks get PYTHONSAFEPATH.
    r'(?<!"-P", )"-m"': {"training/launch.py"},
}
# These calls open, parse, make or remove what others may have put there. Only the named modules may
# make them. Where a module is neither the guard nor an opener, the reason is beside it.
PLACES = {
    # These calls open media.
    "av.open": {
        "video/ffmpeg.py": "the opener: its containers, and limits",
        "minikitchen/kitchen.py": "writes",
        "proxy/encoder.py": "writes",
        "training/trial.py": "writes, from a source inside FFmpeg",
    },
    # These calls read tensors, arrays and zips.
    "torch.load": {
        "training/run.py": "its own checkpoint, weights only",
        "base/untrusted_tensors.py": "in the guard",
        "base/torch_file.py": "our own files, after their checksums",
    },
    "safetensors.torch.load": {"base/untrusted_tensors.py": "what the guard wrote"},
    "np.load": {
        "base/checked.py": "the opener",
        "video/index_file.py": "a copy that this run wrote into a folder of its own",
    },
    "zipfile.ZipFile": {
        "base/checked.py": "the opener, sizes first",
        "base/untrusted_tensors.py": "in the guard",
        "base/torch_file.py": "checksums of a file of ours",
        "submission/files.py": "the opener of a submission, sizes first; and writes",
    },
    "zipfile.is_zipfile": {"base/torch_file.py": "in the guard, or a file of ours"},
    "pickle.load": {
        "base/guarded.py": "an order to the guard, by an unnamed file",
    },
    "_Unpickler": {"base/untrusted_tensors.py": "in the guard, of listed classes alone"},
    "pickle.loads": {
        "base/ranks.py": "an order, in a folder of mode 0700",
        "training/launch.py": "its own request",
    },
    "*.from_pretrained": {"prediction/hugging_face.py": "first in the guard, from known files"},
    # These calls read texts.
    "json.loads": {
        "base/disk.py": "the opener",
        "base/untrusted_tensors.py": "what the guard wrote",
        "base/guarded.py": "lines of the guard",
        "features/participant.py": "within `opened_arrays`",
        "video/index.py": "within `opened_arrays`",
        "video/jobs.py": "within `opened_arrays`",
        "settings/files.py": "our own command's words",
        "training/trial.py": "an order of the process that started it",
    },
    "*.validate_json": {
        "features/tokens.py": "of `read_text`",
    },
    "*.model_validate_json": {
        "prediction/hugging_face.py": "of `read_text`",
        "submission/files.py": "the opener of a submission, of a limited size",
    },
    "yaml.safe_load": {
        "model/published.py": "of `read_text`",
        "settings/files.py": "a config of the user, which is trusted",
        "settings/typed.py": "a value of the user, which is trusted",
        "slurm/site.py": "of `read_text`",
    },
    "yaml.compose": {"settings/files.py": "a config of the user, which is trusted"},
    "Config.fromfile": {
        "migrate/adopt.py": "a config that ships",
        "migrate/checkpoint.py": "a config of the user, which is trusted: it runs",
        "training/recipe.py": "a config of the user, which is trusted: it runs",
    },
    "ast.parse": {
        "base/own_modules.py": "the code of the user, which is not run",
        "download/weights.py": "of `read_text`",
        "model/foreign.py": "the text of a config, of a limited length",
    },
    "pd.read_csv": {
        "base/text_table.py": "the opener",
        "migrate/lists.py": "of `reading`, after `read_annotations` has checked it",
    },
    "*.read_text": {
        "training/launch.py": "its own message",
        "base/own_modules.py": "the code of the user",
        "base/machine.py": "files of the system",
        "cli/program.py": "a file that ships",
        "report/template.py": "a file that ships",
        "settings/files.py": "a config of the user, which is trusted",
    },
    "*.read_bytes": {
        "training/launch.py": "its own request",
        "base/untrusted_tensors.py": "what the guard wrote",
        "base/ranks.py": "an order, in a folder of mode 0700",
        "minikitchen/damage.py": "a film of the demo",
    },
    "open": {
        "base/atomic.py": "writes, never through a link",
        "download/part.py": "of `open_plain`",
        "inputs/trials.py": "of `open_plain`",
        "video/index_file.py": "a lock in a folder of this run",
    },
    "*.open": {
        "base/text_table.py": "writes a temporary file",
        "prediction/predict.py": "of `atomic_path`",
        "submission/files.py": "a member of a zip, within the limits",
    },
    "os.open": {
        "base/atomic.py": "writes, never through a link",
        "base/disk.py": "the opener",
        "base/folders.py": "a lock on a folder",
        "base/guarded.py": "/dev/null",
        "base/log.py": "/dev/null",
    },
    # This call opens the network.
    "pycurl.Curl": {"download/transfer.py": "the opener"},
    # These calls change folders and names.
    "os.makedirs": {"base/folders.py": "after a look at links"},
    "*.mkdir": {
        "training/launch.py": "in the folder of results",
        "base/folders.py": "beside its target after a look at links, or of mode 0700",
    },
    "shutil.rmtree": {
        "base/folders.py": "after a look at links",
    },
    "shutil.copytree": {"browse/folder.py": "into a folder that `new_folder` made"},
    "os.replace": {
        "base/atomic.py": "the last step of every output",
        "download/part.py": "the last step of a download",
    },
    "os.link": {
        "base/folders.py": "into a folder of ours",
    },
    "*.symlink_to": {
        "prediction/hugging_face.py": "in a folder of mode 0700",
        "proxy/copies.py": "in the place of a temporary file",
        "timeline/run.py": "in its own work folder",
    },
}
# Nobody makes these calls today. A module that does must be listed above.
NEVER = {
    "requests.get",
    "requests.Session",
    "urlopen",
    "urllib.request.urlopen",
    "yaml.load",
    "eval",
    "exec",
    "json.load",
    "pd.read_pickle",
    "pd.read_json",
    "pd.read_excel",
    "pd.read_table",
    "safetensors.safe_open",
    "safe_open",
    "load_file",
    "joblib.load",
    "np.fromfile",
    "np.loadtxt",
    "np.genfromtxt",
    "os.mkdir",
    "os.removedirs",
    "shutil.move",
    "os.symlink",
    "tarfile.open",
    "os.system",
    "cv2.imread",
    "torchvision.io.read_video",
    "*.hardlink_to",
    "ZipFile",
    "rmtree",
}
LISTED = PLACES.keys() | NEVER


def calls(path: Path) -> set[str]:
    """The calls in a file that are in `PLACES` or `NEVER`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            method = f"*.{node.func.attr}" if isinstance(node.func, ast.Attribute) else ""
            found |= {name if name in LISTED else method} & LISTED
    return found


def test_what_opens_makes_or_removes_what_others_may_have_put_there_is_listed():
    using = {path.relative_to(PACKAGE).as_posix(): calls(path) for path in MODULES}
    for call in LISTED:
        assert {file for file in using if call in using[file]} == set(PLACES.get(call, ())), call


@pytest.mark.parametrize("words", WORDS)
def test_what_is_dangerous_or_not_everywhere_has_one_place(words):
    using = (path for path in MODULES if re.search(words, path.read_text(encoding="utf-8")))
    assert {path.relative_to(PACKAGE).as_posix() for path in using} == WORDS[words]


RULES = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "rules").glob("*.smk"))


@pytest.mark.parametrize(
    "rule", [text for text in re.split(r"(?m)^ *rule ", RULES) if "function=" in text]
)
def test_the_function_of_a_rule_takes_the_names_of_its_files(rule):
    function = resolve_name(re.search(r'function="(.+)"', rule)[1])
    # The script makes `video` of a row of the video sheet, and `videos` of several.
    names = {"video", "videos", *re.findall(r"(?m)^ +(\w+)=", rule)}
    outputs = re.findall(r"(?m)^ +(\w+)=", re.split(r"(?m)^ *(?:output|log):", rule)[1])
    arguments = signature(function).parameters.values()
    assert {each.name for each in arguments if each.default is each.empty} <= names
    assert set(outputs) <= {each.name for each in arguments}


def test_a_rule_is_retried_only_if_its_jobs_take_more_than_seconds():
    """A short job would fail again for the same reason; a long one has a benchmark."""
    # A rule without a script is a target without a job.
    rules = [text for text in re.split(r"(?m)^ *rule ", RULES) if "script:" in text]
    is_long = {rule.partition(":")[0]: "benchmark:" in rule for rule in rules}
    is_retried = {rule.partition(":")[0]: "retries: 0" not in rule for rule in rules}
    assert is_retried == is_long and set(is_long.values()) == {True, False}
