"""/metrics, /live and /ready."""
