"""Small copies of whole videos, fast to read clips from."""
