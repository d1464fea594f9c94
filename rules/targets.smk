# A target that no rule makes is refused with the nearest one. Included last: it knows every rule.

import difflib


def refuse_unknown_targets():
    """Stop a call with a target that is no rule, no result and no file."""
    rules = [rule for rule in workflow.rules if not rule.name.startswith("_")]
    names = {rule.name for rule in rules}
    for target in getattr(options(), "targets", None) or []:
        if not (target in names or os.path.exists(target)):
            if not any(rule.is_producer(os.path.normpath(target)) for rule in rules):
                near = difflib.get_close_matches(target, names | results_of(rules), 1)
                meant = f"; did you mean {near[0]}?" if near else ";"
                raise WorkflowError(
                    f"{target}: no rule makes this{meant} `snakemake --list-rules` names the rules, "
                    "README.md the files"
                )


def results_of(rules):
    """The files that rules make, by every name that a user may have meant."""
    files = [str(path) for rule in rules for path in rule.output]
    plain = [re.sub(r"{(\w+),[^}]*}", r"{\1}", path) for path in files]
    names = {"kind": ["pt", "zip"], "participant": CHOSEN, "split": ANNOTATIONS, "run": SWEEP}
    return set(expand(plain, **names, video=[v.video_id for v in VIDEOS], allow_missing=True))


# Another workflow that uses this one as a module may have rules of its own after it.
if workflow.is_main_process and workflow.modifier.is_main_snakefile():
    refuse_unknown_targets()
