"""One module a data set, each with a function `create(data_dir, cache_dir, *, options) -> Dataset`."""
