"""X3D-S from random weights: SlowFast's schedule for it (configs/Kinetics/X3D_S.yaml).

300 epochs, cosine after a warm-up of 35 epochs from a tenth, SGD with 0.1 for a batch of 128, no
weight decay on BatchNorm. On the 67,217 segments of EPIC-100 that is 20 M clips, on Kinetics-400,
where it was tuned, 72 M.
"""

_base_ = ["./x3d_s_epic_rgb_segments.py"]

epochs = 300
warm_up = 35

train_cfg = dict(max_epochs=epochs, val_interval=10)
optim_wrapper = dict(optimizer=dict(lr=0.1), paramwise_cfg=dict(_delete_=True, norm_decay_mult=0.0))
auto_scale_lr = dict(base_batch_size=128)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=True, end=warm_up, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        by_epoch=True,
        begin=warm_up,
        end=epochs,
        T_max=epochs - warm_up,
        convert_to_iter_based=True,
    ),
]
work_dir = "results/work_dirs/x3d_s_from_scratch"
load_from = None
from_scratch = True  # for the workflow: no weights are missing here
