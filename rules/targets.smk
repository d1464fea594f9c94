# A target that nothing makes is refused with the nearest name. This is included last, so all rules
# are known.

from epic100.base.names import did_you_mean
from epic100.cli.program import COMMANDS


def refuse_unknown_targets():
    """Stop a call with a target that is no rule, no result and no file."""
    made = [each for each in workflow.rules if not each.name.startswith("_")]
    rules = {each.name: each for each in made}
    for target in getattr(options(), "targets", None) or []:
        if target in rules:
            if rules[target].has_wildcards():
                files = sorted(results_of([rules[target]]))
                raise WorkflowError(f"{target}: makes several files; name them, as {files[0]}")
        elif target in COMMANDS:
            raise WorkflowError(f"{target}: is a command and no target; expected epic100 {target}")
        elif not os.path.exists(target):
            if not any(each.is_producer(os.path.normpath(target)) for each in made):
                raise WorkflowError(f"{target}: no rule makes this{right_target(target, made)}")


def right_target(target, made):
    """What to give in place of a target that nothing makes, or beside it."""
    of_run = re.match(r"results/runs/([^/]+)/.", os.path.normpath(target))
    if of_run and of_run[1] not in (SWEEP or [CONFIG.run]):
        return f" without the config of that run; give run={of_run[1]} too, or its --configfile"
    meant = did_you_mean(target, {each.name for each in made} | results_of(made))
    return meant or "; `snakemake --list-rules` names the rules, README.md the files"


def results_of(made):
    """The files that rules make, by every name that a user may have meant."""
    files = [str(path) for each in made for path in each.output]
    plain = [re.sub(r"{(\w+),[^}]*}", r"{\1}", path) for path in files]
    names = {"kind": ["pt", "zip"], "participant": CHOSEN, "split": ANNOTATIONS, "run": SWEEP}
    return set(expand(plain, **names, video=[v.video_id for v in VIDEOS], allow_missing=True))


without_retries()
# Another workflow that uses this one as a module may have rules of its own after it.
if workflow.is_main_process and workflow.modifier.is_main_snakefile():
    if workflow.resource_settings.cores == 0:
        raise WorkflowError("--cores 0: no job could ever start; expected 1 or more, or all")
    refuse_unknown_targets()
