"""Small networks of the literature, written for the tests, under the parameter names of their public checkpoints."""
