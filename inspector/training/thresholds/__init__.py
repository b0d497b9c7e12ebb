"""What good frames and artificial defects score, and the threshold that follows."""
