"""Training: the workflow's settings into an MMEngine run that can be killed and goes on."""
