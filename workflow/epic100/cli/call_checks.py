"""Find mistakes in a call that Snakemake would report without naming the file or the argument."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from epic100.base.errors import EpicError
from epic100.settings import read_layer

CONFIG_FILES = ("--configfile", "--configfiles")
KINDS = (".yaml", ".yml", ".json")


def refuse_slips(arguments: Sequence[str]) -> None:
    """Raise for the first argument that must be a mistake.

    Raises:
        EpicError: A target among the config files, a config file that is missing, empty or not
            YAML, or a key with a dot.
    """
    for option, word in _values(arguments):
        if option in CONFIG_FILES:
            _refuse_file(option, word)
        elif option == "--config" and "." in word.partition("=")[0]:
            section, _, rest = word.partition(".")
            key, _, value = rest.partition("=")
            raise EpicError(
                f"--config {word}: the key has a dot in it; expected a file for --configfile, with "
                f"the line `{section}: {{{key}: {value}}}`"
            )


def _values(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (option, value) for each argument that follows an option, up to the next option."""
    option = ""
    for argument in arguments:
        if argument.startswith("-"):
            option, equals, word = argument.partition("=")
            if equals:
                yield option, word
        else:
            yield option, argument


def _refuse_file(option: str, word: str) -> None:
    path = Path(word)
    if path.is_file():
        read_layer(path)
    elif path.suffix not in KINDS:
        raise EpicError(
            f"{word}: no config file, but {option} takes every word behind it; put targets before "
            f"the options: {word} {option} ..."
        )
    else:
        raise EpicError(f"{word}: no such config file; expected YAML, correct {option}")
