"""The recognizer, and the trained model as one file."""
