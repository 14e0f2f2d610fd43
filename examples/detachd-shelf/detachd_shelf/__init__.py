"""An example of a storage driver of one's own: a shelf of volumes, its daemon, and its driver."""
