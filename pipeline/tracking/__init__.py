"""MLflow: the run of each stage, the summary run, the registry."""
