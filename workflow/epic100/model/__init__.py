"""The recognizer, and the file format of the trained model."""
