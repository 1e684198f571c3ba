"""Public data sets as they are downloaded: `movielens`, `amazon` and `recbole`.

Each module has ``read(folder) -> (Catalog, Interactions)``, ready for training, and ``load(folder) -> Source``, which
can also be written as Parquet. No torch.
"""
