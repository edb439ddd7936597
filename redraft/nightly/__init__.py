"""`redraft nightly`: from a day's events to a new model in service and lists for everybody, step by step."""
