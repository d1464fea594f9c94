# A target that no rule makes is rejected, with the nearest name that is one. This file is included
# last, so that all rules are known.

import io
from contextlib import redirect_stderr, suppress

from snakemake.cli import get_argument_parser

from epic100.base.errors import did_you_mean
from epic100.cli.program import COMMANDS
from epic100.settings.config import Settings
from epic100.settings.section import names_of, similar_or_known


def reject_unknown_targets():
    """Stop a call with a target that is no rule, no result and no file."""
    rules = {rule.name: rule for rule in workflow.rules if not rule.name.startswith("_")}
    # Snakemake's parser takes long, so it is asked only about a word that is in doubt.
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    known = {name for name in rules if not rules[name].has_wildcards()}
    if all(word in known or os.path.exists(word) for word in words):
        return
    targets = []
    # If another program has called Snakemake, the parser prints an error about its words, and exits.
    with suppress(SystemExit), redirect_stderr(io.StringIO()):
        targets += get_argument_parser().parse_args(sys.argv[1:]).targets or []
    for target in targets:
        if target in rules:
            if rules[target].has_wildcards():
                files = sorted(results_of([rules[target]]))
                raise WorkflowError(f"{target}: makes several files; name them, as {files[0]}")
        elif target in COMMANDS:
            raise WorkflowError(f"{target}: is a command and no target; expected epic100 {target}")
        elif target in names_of(Settings):
            raise WorkflowError(f"{target}: is a key of the config; expected {target}=VALUE")
        elif not os.path.exists(target):
            reject_unmade(target, rules.values())


def reject_unmade(target, rules):
    """Stop a call for a file that no rule makes, or one of a participant, video or split that the
    sheet or the config does not have."""
    path = os.path.normpath(target)
    makers = [rule for rule in rules if rule.is_producer(path)]
    if not makers:
        raise WorkflowError(f"{target}: no rule makes this{hint_for(target, rules)}")
    known = {
        "participant": (dict.fromkeys(video.participant_id for video in VIDEOS), SHEET),
        "video": ({video.video_id: None for video in VIDEOS}, SHEET),
        "split": (ANNOTATIONS, "the config, in `annotations:`,"),
    }
    for name, value in makers[0].get_wildcards(path).items():
        names, place = known.get(name, ((value,), ""))
        if value not in names:
            raise WorkflowError(
                f"{target}: {place} has no {name} {value}{similar_or_known(value, names)}"
            )


def hint_for(target, rules):
    """The end of the error for an unknown target: the missing `run=`, or the nearest name."""
    # The dot at the end stands for a file in the folder of the run.
    of_run = re.match(r"results/runs/(?P<name>[^/]+)/.", os.path.normpath(target))
    if of_run and of_run["name"] not in (SWEEP or [CONFIG.run]):
        return (
            f" without the config of that run; give run={of_run['name']} too, or its --configfile"
        )
    name = target.partition("=")[0]
    keys = [key for key in names_of(Settings) if key.endswith(f".{name}")]
    if "=" in target and keys:
        return f"; did you mean {keys[0]}=VALUE?"
    nearest = did_you_mean(target, {rule.name for rule in rules} | results_of(rules))
    return nearest or "; `snakemake --list-rules` names the rules, README.md the files"


def results_of(rules):
    """The paths of all files that rules can make, for every participant, split, run and video."""
    files = [str(path) for rule in rules for path in rule.output]
    # For `expand`, a wildcard with a pattern, as `{kind,pt|zip}`, becomes `{kind}`.
    files = [re.sub(r"{(\w+),[^}]*}", r"{\1}", path) for path in files]
    values = {"kind": ["pt", "zip"], "participant": CHOSEN, "split": ANNOTATIONS, "run": SWEEP}
    # `allow_missing` leaves any other wildcard in its path.
    video_ids = [video.video_id for video in VIDEOS]
    return set(expand(files, **values, video=video_ids, allow_missing=True))


# Another workflow that uses this one as a module may have its own rules after it.
if workflow.is_main_process and workflow.modifier.is_main_snakefile():
    if workflow.resource_settings.cores == 0:
        raise WorkflowError("--cores 0: no job could ever start; expected 1 or more, or all")
    reject_unknown_targets()
