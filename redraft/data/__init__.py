"""Raw logs in, data sets out: readers, the shared import path, splits and the memory-mapped store."""
