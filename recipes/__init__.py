"""Programs that made what the package ships; they run from a clone and are not installed."""
