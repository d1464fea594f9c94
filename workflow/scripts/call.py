"""Door of all rules that hand their files to one function of the library, `params.function`.

The names of inputs, outputs and other parameters are the names of the function's arguments. Of
`settings` it gets the sections, of `rows` the `videos`, of a `row` the `video`. What it has no
argument for only makes the job wait or run again.
"""

from inspect import signature
from pkgutil import resolve_name

from epic100.base.log import rule_log
from epic100.settings import Settings
from epic100.video.sheet import Video

with rule_log(snakemake.log[0]):
    given = {"threads": snakemake.threads}
    given |= {**snakemake.input, **snakemake.output, **snakemake.params}
    if "settings" in given:
        given["settings"] = Settings.part(given["settings"])
    if "rows" in given:
        given["videos"] = [Video(**row) for row in given["rows"]]
    if "row" in given:
        given["video"] = Video(**given["row"])
    function = resolve_name(given["function"])
    function(**{name: given[name] for name in signature(function).parameters if name in given})
