"""Where work runs: in processes of this machine. Tasks are plain functions that write folders of files."""
