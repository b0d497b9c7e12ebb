"""What people ask of a camera: to be offline for a while, and to show its last frame."""
