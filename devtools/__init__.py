"""Sets up a real ComfyUI with this pack, for tests, the demo and measurements: setup/ makes it, server/ says what
it runs on; headforcing_core/farm starts and ends it.

Standard library alone but for demo.py, draw_brand.py and write_locales.py, which run in
the environment that the rest builds."""
