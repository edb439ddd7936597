"""Where work runs: in processes of this machine or on Ray. Tasks are plain functions that write folders of files."""
