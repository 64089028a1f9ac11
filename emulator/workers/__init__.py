"""Many independent jobs on the cores of this computer or on a Dask cluster."""
