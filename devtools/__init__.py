"""Sets up a real ComfyUI with this pack, for tests, the demo and measurements. Standard library only but for client.py
and demo.py, which run in the environment that the rest builds."""
