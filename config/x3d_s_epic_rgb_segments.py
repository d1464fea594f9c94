"""X3D-S on segments of EPIC-KITCHENS-100: 13 frames over the segment; pairs, verbs and nouns.

What this file says is what is trained. The workflow sets what a run knows: where files are, and
the keys of `train:` that a user gives. MMAction2's own tool trains the file as it is,
    python tools/train.py config/x3d_s_epic_rgb_segments.py
in a folder with videos/ and results/, after `snakemake results/clean/pairs.tsv`. Model and input
follow MMAction2's X3D-S recipe (configs/recognition/x3d, after Feichtenhofer, CVPR 2020); why the
frames are spread over the segment: docs/recipe.md. The schedule is for a start from Kinetics
weights; x3d_s_epic_from_scratch.py is for a start from random weights.

Its numbers, their sources, and why some differ: `reference` below.
"""

custom_imports = dict(imports=["epic100.mmaction"], allow_failed_imports=False)
default_scope = "mmaction"

pairs = "results/clean/pairs.tsv"
epochs = 30
batch_size = 32
workers = 4

model = dict(
    type="ChannelsLastRecognizer3D",
    backbone=dict(type="X3D", gamma_w=1, gamma_b=2.25, gamma_d=2.2),
    # It builds its `head` with an output for each pair of the table, each verb and each noun.
    cls_head=dict(
        type="EpicHead",
        # With `pair` it predicts pairs alone, with `verb_noun` verbs and nouns.
        heads="both",
        pairs=pairs,
        num_verbs=97,
        num_nouns=300,
        head=dict(
            type="X3DHead",
            in_channels=432,
            spatial_type="avg",
            dropout_ratio=0.5,
            label_smooth_eps=0.1,
            fc1_bias=False,
            average_clips="prob",
        ),
    ),
    data_preprocessor=dict(
        type="ActionDataPreprocessor",
        mean=[114.75, 114.75, 114.75],
        std=[57.38, 57.38, 57.38],
        format_shape="NCTHW",
    ),
)

open_segment = dict(type="OpenSegment", decoder="pyav")
pack = dict(
    type="PackActionInputs", meta_keys=("img_shape", "narration_id", "verb", "noun", "num_clips")
)
train_pipeline = [
    open_segment,
    # It takes a random frame from each of 13 parts of the segment.
    dict(type="UniformSample", clip_len=13),
    dict(type="DecodeSegment", short_side=(182, 228), crop="random", size=160, flip_ratio=0.5),
    dict(type="FormatShape", input_format="NCTHW"),
    pack,
]
test_pipeline = [
    open_segment,
    # It takes the middle frame from each part.
    dict(type="UniformSample", clip_len=13, test_mode=True),
    dict(type="DecodeSegment", short_side=182, crop="centre", size=182),
    dict(type="FormatShape", input_format="NCTHW"),
    pack,
]

dataset = dict(
    type="EpicSegmentVideoDataset", data_root="videos", index_dir="results/scan", pairs=pairs
)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=workers,
    persistent_workers=workers > 0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(dataset, ann_file="results/clean/train.txt", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=batch_size,
    num_workers=workers,
    persistent_workers=workers > 0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(dataset, ann_file="results/clean/val.txt", pipeline=test_pipeline, test_mode=True),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="EpicPairMetric", heads="both", pairs=pairs)
test_evaluator = val_evaluator

train_cfg = dict(type="ResumableTrainLoop", max_epochs=epochs, val_interval=5)
val_cfg = dict(type="PrecisionValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.0045, momentum=0.9, weight_decay=5e-5, nesterov=True),
    constructor="RuledOptimWrapperConstructor",
    # Parameters with fewer dimensions do not decay: neither norms nor biases.
    paramwise_cfg=dict(decay_from=2),
    clip_grad=dict(max_norm=40, norm_type=2),
)
auto_scale_lr = dict(enable=True, base_batch_size=32)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        by_epoch=True,
        begin=1,
        end=epochs,
        T_max=epochs - 1,
        convert_to_iter_based=True,
    ),
]

default_hooks = dict(
    runtime_info=dict(type="RuntimeInfoHook"),
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=20, ignore_last=False),
    param_scheduler=dict(type="UpdateSchedulerHook"),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    seeds=dict(type="SampleSeedHook"),
    # It saves after each epoch, and the best by val action top-1.
    checkpoint=dict(
        type="SaveHook",
        seconds=600,
        max_keep_ckpts=2,
        save_best="epic/overall_action_accuracy_at_1",
        rule="greater",
    ),
    epoch=dict(type="EpochHook"),
)
# These hooks can change the weights, so with other ones it is another run.
custom_hooks = [
    # At the end of an epoch, BatchNorm statistics become the mean over all processes.
    dict(type="SyncBuffersHook"),
]
env_cfg = dict(
    # This is worth it, since shapes are fixed. On a GPU two runs then differ in their last digits.
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
randomness = dict(seed=0)
log_processor = dict(type="LogProcessor", window_size=20, by_epoch=True)
vis_backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
visualizer = dict(type="ActionVisualizer", vis_backends=vis_backends)
log_level = "INFO"
load_from = "https://download.openmmlab.com/mmaction/v1.0/recognition/x3d/facebook/x3d_s_13x6x1_facebook-kinetics400-rgb_20201027-623825a0.pth"
resume = False
work_dir = "results/work_dirs/x3d_s"

# This says where each number is from: `name = value` as it is there, by file and commit, and why it
# differs here. tests/tools/recipe_pages.py has the names, compares them with this config and prints
# them.
reference = dict(
    figure=None,
    numbers={
        "epic-kitchens/epic-kitchens-slowfast@bf50519": {
            "configs/EPIC-KITCHENS/SLOWFAST_8x8_R50.yaml": dict(
                rate=0.01, rate_batch=32, batch=32, epochs=30, warm_up=[1, 0.1]
            ),
            "tools/train_net.py": dict(loss="mean of verb, noun", smoothing=0.0),
        },
        "facebookresearch/SlowFast@287ec00": {
            "configs/Kinetics/X3D_S.yaml": dict(
                optimizer="SGD",
                decay=5e-5,
                schedule="cosine to 0",
                dropout=0.5,
                frames="13 x 6 at 30",
                crop="182-228, 160",
                test_crop="182, 182",
            ),
            "slowfast/config/defaults.py": dict(
                momentum=0.9,
                nesterov=True,
                clip=None,
                head_init=0.01,
                flip=0.5,
                mean=[114.75, 114.75, 114.75],
                std=[57.375, 57.375, 57.375],
                views=30,
                precision="fp32",
            ),
            "slowfast/models/optimizer.py": dict(no_decay="norms"),
            "slowfast/utils/lr_policy.py": dict(warm_up_ends="a step later"),
            "slowfast/datasets/loader.py": dict(last_batch="left out"),
            "MODEL_ZOO.md": dict(start="Kinetics-400"),
        },
    },
    differs=dict(
        loss="as LaViLa; three heads were better than one or two on the hard mini kitchen",
        rate="the trunk's gradient is 2.2 times that of the loss there: 0.01 / 2.2",
        smoothing="LaViLa's and AVION's",
        no_decay="LaViLa's and AVION's",
        clip="of MMAction2's SGD recipes",
        frames="over the segment, as LaViLa, AVION and TSM: docs/recipe.md",
        views="frames over the segment need no more clips",
        std="MMAction2 rounds it",
        warm_up_ends="MMEngine's schedule",
        last_batch="no segment is left out of an epoch",
    ),
)
