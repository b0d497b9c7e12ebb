"""Networks that learn: options, steps, folds, and the course of one training."""
