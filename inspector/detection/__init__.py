"""From a frame to a verdict: preprocessing, tiles, the anomaly map, and the decision on it."""
