"""Inference engines: the contract, one module or package per engine, and the stage that builds them."""
