"""Videos and the files of pose trackers become recordings."""
