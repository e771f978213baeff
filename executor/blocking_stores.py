"""Databases that are no SQL databases, and caches: what of their clients can wait.

The notation is described in :mod:`executor.blocking_table`.
"""

from __future__ import annotations

from executor.blocking_table import Aliases, Class, Functions

__all__ = ["STORES"]

_REDIS = (
    "pipeline=redis.Pipeline pubsub=redis.PubSub lock=redis.Lock register_script=redis.Script"
    " from_url=redis.Redis connection_pool get_encoder set_response_callback monitor=redis.PubSub"
)
_CURSOR = "pymongo.Cursor"

STORES: tuple[Functions | Class | Aliases, ...] = (
    Class(
        "redis.Pipeline",
        waits="execute watch",
        plain="multi",
        leave="",
        also="redis.client.Pipeline",
    ),
    Class(
        "redis.PubSub",
        waits="subscribe psubscribe unsubscribe get_message listen=redis.PubSub run_in_thread?nothing",
        iteration="!",
    ),
    Class("redis.Lock", base="threading.Lock", waits="release extend", enter="!", leave="!"),
    Aliases("redis.Lock", "redis.lock.Lock"),
    Class("redis.Script"),
    Class(
        "redis.Redis",
        other="!",
        plain=_REDIS,
        also="redis.StrictRedis redis.RedisCluster redis.Sentinel redis.cluster.RedisCluster"
        " redis.sentinel.Sentinel valkey.Valkey fakeredis.FakeRedis fakeredis.FakeStrictRedis",
    ),
    Functions("redis", plain="from_url=redis.Redis Redis.from_url=redis.Redis"),
    Aliases("redis.from_url", "redis.utils.from_url"),
    Class(
        _CURSOR,
        waits="next to_list explain distinct count",
        plain="sort=self limit=self skip=self batch_size=self hint=self max_time_ms=self",
        iteration="!",
        item="!",
        also="pymongo.CommandCursor",
    ),
    Class(
        "pymongo.Collection",
        other="!",
        plain=f"find={_CURSOR} with_options=self aggregate_raw_batches find_raw_batches={_CURSOR}",
    ),
    Aliases("pymongo.Collection", "pymongo.collection.Collection"),
    Class(
        "pymongo.Database",
        waits="list_collection_names list_collections command create_collection drop_collection"
        " validate_collection aggregate dereference",
        plain="get_collection=pymongo.Collection with_options=self",
        item="=pymongo.Collection",
        attributes="*=pymongo.Collection name=_",
        also="pymongo.database.Database",
    ),
    Class(
        "pymongo.MongoClient",
        waits="list_database_names list_databases server_info drop_database start_session?nothing"
        " watch",
        plain="get_database=pymongo.Database get_default_database=pymongo.Database close",
        item="=pymongo.Database",
        attributes="*=pymongo.Database",
        also="pymongo.mongo_client.MongoClient mongomock.MongoClient",
    ),
    Class(
        "pymemcache.Client",
        other="!",
        also="pymemcache.client.base.Client memcache.Client pylibmc.Client bmemcached.Client"
        " pymemcache.client.hash.HashClient pymemcache.PooledClient",
    ),
    Class(
        "elasticsearch.Elasticsearch",
        other="!",
        chains=True,
        plain="options=self close",
        also="opensearchpy.OpenSearch meilisearch.Client typesense.Client",
    ),
    Functions("elasticsearch.helpers", "bulk reindex", "scan=os.Walk streaming_bulk=os.Walk"),
    Class("cassandra.cluster.Cluster", waits="connect=cassandra.Session shutdown"),
    Class("cassandra.Session", waits="execute prepare", plain="execute_async"),
    Aliases("cassandra.Session", "cassandra.cluster.Session"),
    Functions("neo4j", plain="GraphDatabase.driver=neo4j.Driver"),
    Class("neo4j.Driver", waits="verify_connectivity execute_query", plain="session=neo4j.Session"),
    Class("neo4j.Session", waits="run execute_read execute_write begin_transaction", leave="!"),
    Class("clickhouse_driver.Client", waits="execute execute_iter query_dataframe"),
    Functions("clickhouse_connect", "get_client=clickhouse_driver.Client"),
    Class("influxdb.InfluxDBClient", other="!", also="influxdb_client.InfluxDBClient", chains=True),
    Class("etcd3.Client", other="!"),
    Functions("etcd3", plain="client=etcd3.Client"),
    Class("consul.Consul", other="!", chains=True),
    Class("hvac.Client", other="!", chains=True),
    Class("kazoo.client.KazooClient", other="!"),
    Class("chromadb.Client", other="!", chains=True, also="chromadb.HttpClient"),
    Class("qdrant_client.QdrantClient", other="!", also="pinecone.Pinecone weaviate.Client"),
)
