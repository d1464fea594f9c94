# A target that nothing makes is refused with the nearest name. Included last, so all rules are known.

import difflib


def refuse_unknown_targets():
    """Stop a call with a target that is no rule, no result and no file."""
    made = [each for each in workflow.rules if not each.name.startswith("_")]
    names = {each.name for each in made}
    for target in getattr(options(), "targets", None) or []:
        if not (target in names or os.path.exists(target)):
            if not any(each.is_producer(os.path.normpath(target)) for each in made):
                near = difflib.get_close_matches(target, names | results_of(made), 1)
                meant = f"; did you mean {near[0]}?" if near else ";"
                raise WorkflowError(
                    f"{target}: no rule makes this{meant} `snakemake --list-rules` names the rules, "
                    "README.md the files"
                )


def results_of(made):
    """The files that rules make, by every name that a user may have meant."""
    files = [str(path) for each in made for path in each.output]
    plain = [re.sub(r"{(\w+),[^}]*}", r"{\1}", path) for path in files]
    names = {"kind": ["pt", "zip"], "participant": CHOSEN, "split": ANNOTATIONS, "run": SWEEP}
    return set(expand(plain, **names, video=[v.video_id for v in VIDEOS], allow_missing=True))


without_retries()
# Another workflow that uses this one as a module may have rules of its own after it.
if workflow.is_main_process and workflow.modifier.is_main_snakefile():
    refuse_unknown_targets()
