"""`redraft experiment plan`, `run`, `watch` and `report`."""
