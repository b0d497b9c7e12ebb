"""Where verdicts and pictures go."""
