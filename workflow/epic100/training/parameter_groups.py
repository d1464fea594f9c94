"""Which weights decay, and at which rate each learns: groups of parameters, by rules.

MMEngine's own constructor goes by the kind of a layer and by names, and a rate for a part of the
model switches its rules for norms and biases off there.
"""

import re
from typing import Any

from mmaction.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from epic100.base.errors import EpicError

RULES = ("decay_from", "no_decay", "layer_decay")
BLOCK = re.compile(r"backbone\.blocks\.(\d+)\.")
EMBEDDING = re.compile(r"backbone\.(cls_token|pos_embed|time_embed|patch_embed)")


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class RuledOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Make one group of all parameters that decay alike and learn at the same rate.

    `paramwise_cfg` holds the rules, each of which may be absent:

    - `decay_from`: Parameters with fewer dimensions do not decay; 2: neither norms nor biases.
    - `no_decay`: Parts of names; parameters with one of them do not decay either.
    - `layer_decay`: The rate of a transformer's block as a share of that of the block above it. The
      head has the whole rate, and embeddings are below the first block (`optim_factory.py` of
      VideoMAE at 14ef8d8).

    Frozen parameters are in no group.
    """

    def _validate_cfg(self) -> None:
        if unknown := set(self.paramwise_cfg) - set(RULES):
            raise EpicError(
                f"`optim_wrapper.paramwise_cfg` has {min(unknown)}, which is none of "
                f"{', '.join(RULES)}; take it out, or set `optim_wrapper.constructor` to "
                "DefaultOptimWrapperConstructor, which is MMEngine's"
            )

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, **kwargs: Any) -> None:
        """Add the groups of the parameters of `module` to `params`."""
        min_ndim, names, share = (self.paramwise_cfg.get(rule) for rule in RULES)
        learned = {name: p for name, p in module.named_parameters() if p.requires_grad}
        blocks = {name: int(match[1]) for name in learned if (match := BLOCK.match(name))}
        head_layer = max(blocks.values(), default=0) + 2
        groups: dict[tuple[bool, int], dict[str, Any]] = {}
        for name, parameter in learned.items():
            decays = parameter.ndim >= (min_ndim or 0) and not any(n in name for n in names or ())
            layer = 0 if EMBEDDING.match(name) else blocks.get(name, head_layer - 1) + 1
            depth = head_layer - layer if share else 0
            group = groups.setdefault((decays, depth), {"params": []})
            group["params"].append(parameter)
            if not decays:
                group["weight_decay"] = 0.0
            if share:
                group["lr"] = self.base_lr * share**depth
        params += groups.values()
