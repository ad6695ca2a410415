"""The command line ``shared_pose``: one small module a command; they parse, call, print."""
