"""Numbers into pictures and pages: frames, charts, notebooks run by papermill, a site to read."""
