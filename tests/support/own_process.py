"""Call a function in a process of its own, forked from one that has imported all."""

import resource
from concurrent.futures import ProcessPoolExecutor

from epic100.base.errors import EpicError
from support.small_runs import processes

# A measured process may take this address space, torch's libraries included.
MAX_BYTES = 5 * 2**30


def apart(function, *arguments, seconds: float = 500):
    """Call a function in another process, and return its result.

    Raises:
        TimeoutError: It takes longer than `seconds`.
    """
    with ProcessPoolExecutor(1, mp_context=processes) as pool:
        return pool.submit(function, *arguments).result(seconds)


def measured(function, *arguments):
    """Call a function in another process, and measure its memory.

    Returns:
        The result of the function or its EpicError; the KiB by which its process grew; the KiB of
        the largest process that it started.
    """
    return apart(_measure, function, arguments)


def _measure(function, arguments):
    """Call a function in this process, and measure its memory, as `measured` returns it."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        result = function(*arguments)
    except EpicError as error:
        result = error
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return result, growth, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
