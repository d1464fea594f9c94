"""Small encoders as a user may write them, two of them wrong. No test is here."""


class Colours:
    """An encoder whose features are the mean colours of a 4 x 4 grid in each of three frames."""

    clip_len, frame_interval, fps, size = 3, 5, None, 16

    def __init__(self, device):
        self.device = device

    def __call__(self, clips):
        """Turn clips [N, 3, frames, 16, 16] into features [N, 3 * frames * 16]."""
        grid = clips.to(self.device).float().unflatten(-1, (4, 4)).unflatten(-3, (4, 4))
        return grid.mean(dim=(-1, -3)).flatten(1) / 255


class OfOneRow(Colours):
    """A wrong encoder that returns the features of the first clip only."""

    def __call__(self, clips):
        return super().__call__(clips)[0]


class Nameless:
    """A wrong encoder, without most of the attributes, that cannot be called."""

    clip_len, size = 3, 16
