"""Project hosts and jobs. The only room that imports Ray; `ingest` and `project` are sans-IO and run in the simulator too."""
