"""UVQ 1.5, a video quality scorer, as a worked example: its three networks, their small variants, all in one."""
