"""What tests share: small models and data sets, a project to run Snakemake in, a ring loop, a server."""
