"""Sets up a real ComfyUI with this pack, for tests, the demo and measurements: setup/ makes it, server/ runs it.

Standard library alone but for server/client.py, demo.py, draw_brand.py and write_locales.py, which run in
the environment that the rest builds."""
