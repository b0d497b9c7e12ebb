"""Where frames come from: one file per kind, one contract (`inspector.sources.base.Source`)."""
