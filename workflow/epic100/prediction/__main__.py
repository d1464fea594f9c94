"""`python -m epic100.prediction < job.json`: one of several processes of a prediction."""

import sys

from epic100.base.errors import EpicError, last_line
from epic100.base.log import log_to_stdout
from epic100.prediction.job import REPORT, Job
from epic100.prediction.worker import predict_videos


def main() -> int:
    """Run the job read from stdin; an EpicError is printed as one line and gives exit code 1."""
    log_to_stdout()
    try:
        job = Job.from_json(sys.stdin.read())
        predict_videos(job, lambda count: print(f"{REPORT}{count}", flush=True))
    except EpicError as error:
        print(last_line(error), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
