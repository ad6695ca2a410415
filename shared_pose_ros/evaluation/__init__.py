"""Evaluation: BOP data, metrics, named protocols, tables, reports and bags. No ROS installation is needed."""
