"""From a folder of good frames to a recipe: datasets, training, calibration, evaluation."""
