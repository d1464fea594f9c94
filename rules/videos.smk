# This reads the video sheet, and finds the participants of the run and the videos that are on disk.

from epic100.cli.input_videos import MISSING, NOTE, WRONG, find_archive
from epic100.cli.inputs import InputFiles, read_inputs
from epic100.cli.where import where_am_i

SHEET = shipped(CONFIG.videos.sheet)
ARCHIVE = find_archive(CONFIG, HERE)
# The rows of the sheet, the participants of the run, and the file on disk of each video by its path
# in lists. A video without a file has the path at which the file would be.
VIDEOS, CHOSEN, FILES = ARCHIVE.videos, ARCHIVE.chosen, ARCHIVE.files
VIDEO_OF_ID = {video.video_id: video for video in VIDEOS}

# The main process reads and checks all inputs once, before any job.
INPUT_FILES = InputFiles.of(CONFIG, HERE)
INPUTS = []
if workflow.is_main_process:
    INPUTS += where_am_i(CONFIG, workflow.overwrite_configfiles, HERE)
    INPUTS += read_inputs(CONFIG, INPUT_FILES, ARCHIVE)
if wrong := [line.words for line in INPUTS if line.state == WRONG]:
    raise WorkflowError("\n".join(wrong))
for line in INPUTS:
    if line.state == NOTE or (line.state, line.topic) == (MISSING, "folder"):
        logger.warning(line.words)


def missing(topic):
    """The message about what is missing of `videos` or `val`, also as a warning; "" for nothing."""
    text = "\n".join(line.words for line in INPUTS if line.state == MISSING and line.topic == topic)
    if text:
        logger.warning(f"{text}; a run that reads them will not start")
    return text


# With these messages, a run that needs the videos stops before its first job.
NO_VIDEOS, NO_VAL = missing("videos"), missing("val")


def contents_of(*keys):
    """The digests of CSVs, lists and the sheet, by their keys in the config, as a parameter.

    With it, a job runs again after a change of a file, whatever the date. A rule of the demo makes
    the CSVs and lists, so they have no digest before it has run."""
    made = ANNOTATION_FILES if MINIKITCHEN else ()
    return INPUT_FILES.digests_of(*(key for key in keys if key not in made))


def videos_of(participant, split=None):
    """The videos of one participant in the sheet, of all splits or of one."""
    return [
        video
        for video in VIDEOS
        if video.participant_id == participant and split in (None, video.split)
    ]


def rows_of(participant, split=None):
    """A participant's rows of the sheet as dictionaries, which are parameters of a job.

    They have no urls, since Snakemake's report shows parameters."""
    return [
        {key: value for key, value in vars(video).items() if key != "url"}
        for video in videos_of(participant, split)
    ]


def participant_of(wildcards):
    """The participant of the video whose timeline a job makes."""
    return VIDEO_OF_ID[wildcards.video].participant_id


def is_or_will_be_there(video):
    """Whether a video's file is on disk, or will be made by the demo or downloaded."""
    if MINIKITCHEN:
        return MINIKITCHEN.damage.get(video.video_id) != "missing"
    return FILES[video.path()].exists() or needs_download(video)


def needs_download(video):
    """Whether the run will download a video. It does not replace a file, nor a broken link."""
    return DOWNLOAD and video.url != "" and not os.path.lexists(FILES[video.path()])


def files_of(wildcards):
    """The video files of a participant that exist or will be made.

    Any other video is no input, so that Snakemake does not reject the job; the scan table has a row
    `missing` for it."""
    videos = filter(is_or_will_be_there, videos_of(wildcards.participant))
    return [input_of(video) for video in videos]


def input_of(video):
    """The input for a video's file, in whatever layout of the archive.

    Snakemake records the path of the usual layout, so a file that is moved to another layout plans
    nothing again."""
    actual, usual = FILES[video.path()], video.path(VIDEO_ROOT)
    return str(actual) if actual == usual else sourcecache_entry(str(actual), str(usual))


def hours_of(participant, split=None):
    """The hours of a participant's videos, of all splits or of one."""
    seconds = sum(video.duration for video in videos_of(participant, split))
    return seconds / 3600


NEEDED = ARCHIVE.needed
# The ids of videos that are on disk, or will be made or downloaded.
ON_DISK = {video.video_id for video in filter(is_or_will_be_there, NEEDED)}
# In a partial archive, participants without any video get no job. If there is no video at all, the
# complete run is planned, so that it can be inspected before the data is there.
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
