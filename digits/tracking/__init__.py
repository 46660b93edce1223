"""Publishes runs and model versions to an MLflow server, if MLFLOW_TRACKING_URI names one."""
