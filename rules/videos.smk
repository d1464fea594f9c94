# This reads the video sheet: which videos there are, which of them are on disk, and who takes part.

from epic100.inputs.archive import find_archive
from epic100.inputs.lines import MISSING, NOTE, WRONG
from epic100.inputs.read import InputFiles, read_inputs
from epic100.inputs.record import changes_since, record_of
from epic100.settings.section import known_and_meant

SHEET = shipped(CONFIG.videos.sheet)
ARCHIVE = find_archive(CONFIG, HERE)
VIDEOS, CHOSEN, FILES = ARCHIVE.videos, ARCHIVE.chosen, ARCHIVE.files

# A run begins with one reading of all its inputs; its jobs use what it has read.
INPUT_FILES = InputFiles.of(CONFIG, HERE)
INPUTS = read_inputs(CONFIG, INPUT_FILES, ARCHIVE) if workflow.is_main_process else []
if wrong := [line.words for line in INPUTS if line.state == WRONG]:
    raise WorkflowError("\n".join(wrong))
for line in INPUTS:
    if line.state == NOTE:
        logger.warning(line.words)
if workflow.is_main_process:
    RECORD = record_of(CONFIG, workflow.overwrite_configfiles, INPUT_FILES, HERE)
    for sentence in changes_since("results" if SWEEP else HOME, RECORD):
        logger.warning(sentence)
NO_VIDEOS = "\n".join(
    line.words for line in INPUTS if line.state == MISSING and line.topic == "videos"
)
if NO_VIDEOS:
    logger.warning(f"{NO_VIDEOS}; a run that reads videos will not start")


def videos_of(participant, split=None):
    """The sheet's rows of one participant, of all splits or of one."""
    own = [video for video in VIDEOS if video.participant_id == participant]
    if not own:
        known = dict.fromkeys(video.participant_id for video in VIDEOS)
        raise WorkflowError(
            f"results of {participant} were asked for, but {SHEET} has no such participant"
            f"{known_and_meant(participant, known)}"
        )
    return [video for video in own if split in (None, video.split)]


def rows_of(participant, split=None):
    """The sheet's rows of a participant's videos, as job parameters: without urls, since Snakemake's
    report shows parameters."""
    return [
        {key: value for key, value in vars(video).items() if key != "url"}
        for video in videos_of(participant, split)
    ]


def video_at(wildcards):
    """The sheet's row of one video."""
    return next(video for video in VIDEOS if video.video_id == wildcards.video_id)


def video_on_request(wildcards):
    """The sheet's row of the video whose timeline is asked for."""
    for video in VIDEOS:
        if video.video_id == wildcards.video:
            return video
    raise WorkflowError(
        f"results/timeline/{wildcards.video}.tsv: {SHEET} has no such video; expected a video_id of "
        "it; for other files: epic100 predict VIDEO --model results/model.pth"
    )


def is_there(video):
    """Whether a video's file is on disk, or will be made by the demo or downloaded."""
    if MINIKITCHEN:
        return MINIKITCHEN.damage.get(video.video_id) != "missing"
    return FILES[video.path()].exists() or is_to_come(video)


def is_to_come(video):
    """Whether the file will be downloaded. What is at its path is kept, even a broken link."""
    return DOWNLOAD and video.url != "" and not os.path.lexists(FILES[video.path()])


def files_of(wildcards):
    """Videos that can be scanned: a missing one is a row in the table, not a broken DAG."""
    videos = filter(is_there, videos_of(wildcards.participant))
    return [input_of(video) for video in videos]


def input_of(video):
    """A video's file. Snakemake records its first place, wherever it is found: a file that is moved
    to another layout plans nothing again."""
    found, first = FILES[video.path()], video.path(VIDEO_ROOT)
    return str(found) if found == first else sourcecache_entry(str(found), str(first))


def hours_of(participant, split=None):
    """Hours of video that a participant's scan decodes, or of those of one split."""
    return sum(video.duration for video in videos_of(participant, split)) / 3600


# In a partial archive, participants without any video get no job. If there is no video at all, the
# whole run is planned, so that it can be inspected before the data is there.
NEEDED = ARCHIVE.needed
ON_DISK = {video.video_id for video in filter(is_there, NEEDED)}
PARTICIPANTS = [
    name
    for name in CHOSEN
    if DOWNLOAD or not ON_DISK or any(video.video_id in ON_DISK for video in videos_of(name))
]
if workflow.is_main_process and not MINIKITCHEN and 0 < len(ON_DISK) < len(NEEDED):
    logger.info(
        f"{VIDEO_ROOT}: {len(ON_DISK)} of the {len(NEEDED)} videos of the sheet are there; "
        "`epic100 check` lists them by participant"
    )
