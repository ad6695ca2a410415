"""Recordings read and written without ROS: messages, whole bags, recovery of damaged ones."""
