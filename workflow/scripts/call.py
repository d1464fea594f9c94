"""Door of all rules that hand their files to one function of the library, `params.function`.

The names of inputs, outputs and other parameters are the names of the function's arguments.
"""

from pkgutil import resolve_name

from epic100.base.log import rule_log

with rule_log(snakemake.log[0]):
    arguments = dict(snakemake.params.items())
    function = resolve_name(arguments.pop("function"))
    function(**snakemake.input, **snakemake.output, **arguments)
