# The video sheet: which videos there are, which of them are on disk, and who takes part.

from epic100.settings.section import known_and_meant
from epic100.video.sheet import LAYOUTS, find_files, found_instead, on_disk_lines
from epic100.video.sheet import participants_of, read_sheet

SHEET = shipped(CONFIG.videos.sheet)
VIDEOS = read_sheet(SHEET)
CHOSEN = participants_of(VIDEOS, CONFIG.participants.exclude, CONFIG.participants.include)
# Where each is, by its path in lists.
FILES = find_files([video.path() for video in VIDEOS], VIDEO_PLACE)


def none_found():
    """What to do about an archive without any video."""
    places = CONFIG.videos.pattern or ", ".join(LAYOUTS)
    return (
        f"{VIDEO_ROOT}: {found_instead(VIDEO_ROOT)}; expected {places} in it; correct `videos: "
        "root:` in the config, or set `videos: pattern:` or `download: true`"
    )


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
    """These rows as job parameters, without urls, since Snakemake's report shows parameters."""
    return [
        {key: value for key, value in vars(video).items() if key != "url"}
        for video in videos_of(participant, split)
    ]


def video_at(wildcards):
    """The sheet's row of one video."""
    return next(video for video in VIDEOS if video.video_id == wildcards.video_id)


def video_on_request(wildcards, kind):
    """The sheet's row of the video that a timeline or features were asked for of."""
    for video in VIDEOS:
        if video.video_id == wildcards.video:
            return video
    file = f"{wildcards.video}.tsv" if kind == "timeline" else f"{wildcards.video}.npz"
    others = "; for other files: epic100 predict VIDEO --model results/model.pth"
    raise WorkflowError(
        f"results/{kind}/{file}: {SHEET} has no such video; expected a video_id of it"
        + (others if kind == "timeline" else "")
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
NEEDED = [video for video in VIDEOS if video.participant_id in CHOSEN]
ON_DISK = {video.video_id for video in filter(is_there, NEEDED)}
PARTICIPANTS = [
    name
    for name in CHOSEN
    if DOWNLOAD or not ON_DISK or any(video.video_id in ON_DISK for video in videos_of(name))
]
if workflow.is_main_process and not MINIKITCHEN and len(ON_DISK) < len(NEEDED):
    for line in on_disk_lines(NEEDED, ON_DISK, VIDEO_ROOT):
        logger.info(line)
    if not ON_DISK:
        logger.warning(f"{none_found()}; a run that reads videos will not start")
if workflow.is_main_process:
    files = filter(Path.is_file, (FILES[video.path()] for video in NEEDED))
    by_size = sorted((path.stat().st_size, path) for path in files)
    twins = [(one, other) for one, other in zip(by_size, by_size[1:]) if one[0] == other[0] > 0]
    for (size, one), (_, other) in twins[:1]:
        more = f" (and {len(twins) - 1} more pairs are as alike)" if twins[1:] else ""
        logger.warning(
            f"{one} and {other} are both of {size} bytes{more}: is it one film under two ids? The "
            "segments of one of them would be cut from the other's film"
        )
