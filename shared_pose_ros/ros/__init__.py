"""The ROS 2 side: a thin shell around the estimator. Nothing outside this package imports rclpy or a message type."""
