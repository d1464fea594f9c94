"""Script of all rules whose job is one function of the library, `params.function`.

The names of inputs, outputs and other parameters are the names of the function's arguments. The
parameter `settings` becomes a `Settings`, `row` a `video`, and `rows` become `videos`. An input or
a parameter without an argument only makes the job wait for it, or run again with it.
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
