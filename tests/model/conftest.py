"""What tests of models share."""

import pytest


@pytest.fixture(scope="session")
def folders(once):
    """A folder of each type of Hugging Face encoder, by type; to be read only."""
    from support.hugging_face import ENCODER_TYPES, make_encoder

    return once(
        "encoders", lambda home: {name: make_encoder(home / name, name) for name in ENCODER_TYPES}
    )
