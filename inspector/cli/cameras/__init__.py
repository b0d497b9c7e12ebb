"""Commands that look at cameras while the station does not run."""
