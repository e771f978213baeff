"""Third-party libraries whose calls can wait, by the names their users import.

The libraries need not be installed. Only synchronous APIs are listed; their
asynchronous twins (``httpx.AsyncClient``, ``redis.asyncio``) are left out and
so never wait. The notation is described in :mod:`executor.blocking_table`.
"""

from __future__ import annotations

from executor.blocking_table import BlockingTable

__all__ = ["add_libraries"]

_HTTP = "get post put delete patch head options request send"


def _results(words: str, result: str) -> str:
    return " ".join(f"{word}={result}" for word in words.split())


def _add_http(table: BlockingTable) -> None:
    for module, inner in (("requests", "api"), ("httpx", "_api"), ("niquests", "api")):
        response = f"{module}.Response"
        table.add_type(
            response,
            waits="iter_content=[_] iter_lines=[_] read iter_bytes=[_] iter_text=[_] iter_raw=[_]",
            attributes="raw=io.IOBase",
            plain="json raise_for_status",
            iteration="!",
        )
        verbs = _results("get post put delete patch head options request", response)
        table.add_functions(module, verbs)
        for word in ("get", "post", "put", "delete", "patch", "head", "options", "request"):
            table.add_aliases(f"{module}.{word}", f"{module}.{inner}.{word}")
    table.add_functions("httpx", "stream=httpx.Stream")
    table.add_aliases("httpx.stream", "httpx._api.stream")
    table.add_type("httpx.Stream", enter="!=httpx.Response", leave="!")
    session = _results(_HTTP, "requests.Response")
    table.add_type("requests.Session", waits=session, plain="mount close", also="requests.session")
    table.add_aliases("requests.Session", "requests_futures.FuturesSession niquests.Session")
    table.add_aliases("requests.Session", "requests_cache.CachedSession cloudscraper.CloudScraper")
    table.add_type(
        "httpx.Client",
        waits=_results(_HTTP, "httpx.Response"),
        plain="stream=httpx.Stream close build_request",
        also="fastapi.testclient.TestClient starlette.testclient.TestClient",
    )
    table.add_functions("urllib3", "request=urllib3.HTTPResponse")
    table.add_type("urllib3.HTTPResponse", base="io.IOBase", waits="stream json?nothing")
    table.add_aliases("urllib3.HTTPResponse", "urllib3.BaseHTTPResponse")
    table.add_type(
        "urllib3.PoolManager",
        waits=_results(
            "request urlopen request_encode_url request_encode_body", "urllib3.HTTPResponse"
        ),
        plain="connection_from_url=urllib3.PoolManager connection_from_host=urllib3.PoolManager clear",
        also="urllib3.ProxyManager urllib3.HTTPConnectionPool urllib3.HTTPSConnectionPool",
    )
    table.add_functions("urllib3", plain="connection_from_url=urllib3.PoolManager")
    table.add_functions("urllib3.connectionpool", plain="connection_from_url=urllib3.PoolManager")
    table.add_functions("wget", "download")
    table.add_type("pycurl.Curl", waits="perform perform_rb perform_rs")
    table.add_type("httplib2.Http", waits="request")
    table.add_type("mechanize.Browser", waits="open submit")
    table.add_functions("websocket", "create_connection=websocket.WebSocket")
    table.add_type(
        "websocket.WebSocket",
        waits="connect send recv ping close",
        also="websockets.sync.client.Connection",
    )
    table.add_type("websocket.WebSocketApp", waits="run_forever")
    table.add_functions("websockets.sync.client", "connect=websocket.WebSocket")
    table.add_functions("feedparser", "parse")


_CURSOR_WAITS = (
    "execute=self executemany=self fetchone fetchmany fetchall callproc copy=self copy_from"
    " copy_to copy_expert nextset stream=[_] executescript"
)


def _add_dbapi(table: BlockingTable) -> None:
    """Every driver of PEP 249: connecting waits, and so does what a cursor does."""
    table.add_type(
        "dbapi.Cursor",
        waits=_CURSOR_WAITS,
        iteration="!",
        leave="",
        also="psycopg2.cursor psycopg2.extensions.cursor psycopg.Cursor pymysql.cursors.Cursor"
        " mysql.connector.cursor.MySQLCursor MySQLdb.cursors.Cursor pyodbc.Cursor oracledb.Cursor"
        " pymssql.Cursor psycopg2.extras.DictCursor psycopg2.extras.RealDictCursor",
    )
    connection = table.add_type(
        "dbapi.Connection",
        new="!",
        waits="commit rollback close execute=dbapi.Cursor ping query reconnect poll cmd_query"
        " begin select_db autocommit?nothing start_transaction",
        plain="cursor=dbapi.Cursor transaction=dbapi.Transaction pipeline=dbapi.Transaction",
        leave="!",
        also="psycopg2.connection psycopg2.extensions.connection psycopg.Connection"
        " pymysql.Connection pymysql.connections.Connection mysql.connector.MySQLConnection"
        " mysql.connector.connection.MySQLConnection mysql.connector.abstracts.MySQLConnectionAbstract"
        " MySQLdb.Connection MySQLdb.connections.Connection pyodbc.Connection oracledb.Connection"
        " cx_Oracle.Connection pymssql.Connection mariadb.Connection",
    )
    connection.methods["connect"] = connection.new._replace(result=connection.new.result)
    table.add_type("dbapi.Transaction", enter="!=self", leave="!")
    drivers = (
        "psycopg2 psycopg pymysql mysql.connector MySQLdb mariadb pyodbc oracledb cx_Oracle"
        " pymssql pg8000 pg8000.dbapi pg8000.native ibm_db_dbi snowflake.connector"
        " clickhouse_driver.dbapi duckdb trino.dbapi prestodb.dbapi hdbcli.dbapi vertica_python"
        " fdb firebirdsql databricks.sql redshift_connector pyhive.hive pyhive.presto turbodbc"
        " jaydebeapi apsw sqlcipher3 pysqlite3 phoenixdb teradatasql MySQLdb.connections libsql"
    )
    for driver in drivers.split():
        table.add_functions(driver, "connect=dbapi.Connection")
    for driver in ("pymysql", "MySQLdb"):
        table.add_functions(driver, "Connect=dbapi.Connection")
    table.add_aliases("psycopg.connect", "psycopg.Connection.connect")
    table.add_functions("duckdb", "sql=dbapi.Cursor query=dbapi.Cursor execute=dbapi.Cursor")
    table.add_type(
        "psycopg2.pool.SimpleConnectionPool",
        new="!",
        waits="getconn=dbapi.Connection closeall",
        plain="putconn",
        also="psycopg2.pool.ThreadedConnectionPool psycopg2.pool.PersistentConnectionPool",
    )
    table.add_type(
        "psycopg_pool.ConnectionPool",
        waits="getconn=dbapi.Connection wait open close check",
        plain="connection=psycopg_pool.Lease",
        enter="!",
        leave="!",
    )
    table.add_type("psycopg_pool.Lease", enter="!=dbapi.Connection", leave="!")
    table.add_type(
        "mysql.connector.pooling.MySQLConnectionPool",
        new="!",
        waits="get_connection=dbapi.Connection",
    )


def _add_sqlalchemy(table: BlockingTable) -> None:
    result = "sqlalchemy.Result"
    table.add_type(
        result,
        waits="all fetchall fetchone fetchmany first one one_or_none scalar scalar_one"
        " scalar_one_or_none partitions=[_]",
        plain="scalars=self mappings=self unique=self keys",
        iteration="!",
        also="sqlalchemy.CursorResult sqlalchemy.engine.Result sqlalchemy.ScalarResult",
    )
    table.add_type(
        "sqlalchemy.orm.Query",
        waits="all first one one_or_none scalar count get delete update",
        plain=_results(
            "filter filter_by order_by limit offset join outerjoin options group_by having distinct"
            " where select_from with_entities",
            "self",
        ),
        iteration="!",
    )
    table.add_type(
        "sqlalchemy.Connection",
        waits=f"execute={result} exec_driver_sql={result} scalar scalars={result} commit rollback"
        " close begin=sqlalchemy.Transaction",
        leave="!",
        enter="=self",
        also="sqlalchemy.engine.Connection sqlalchemy.future.Connection",
    )
    table.add_type("sqlalchemy.Transaction", waits="commit rollback", leave="!")
    table.add_type("sqlalchemy.Begin", enter="!=sqlalchemy.Connection", leave="!")
    table.add_type(
        "sqlalchemy.Engine",
        waits="connect=sqlalchemy.Connection raw_connection=dbapi.Connection"
        f" execute={result} scalar table_names",
        plain="begin=sqlalchemy.Begin dispose",
        also="sqlalchemy.engine.Engine sqlalchemy.future.Engine",
    )
    table.add_functions("sqlalchemy", plain="create_engine=sqlalchemy.Engine")
    table.add_aliases(
        "sqlalchemy.create_engine", "sqlalchemy.engine.create_engine sqlmodel.create_engine"
    )
    table.add_aliases("sqlalchemy.create_engine", "sqlalchemy.engine.create.create_engine")
    table.add_functions("sqlalchemy", "inspect?onrule=sqlalchemy.Inspector")
    table.add_type("sqlalchemy.Inspector", other="!")
    table.add_type("sqlalchemy.MetaData", waits="create_all drop_all reflect")
    table.add_type(
        "sqlalchemy.orm.Session",
        waits=f"execute={result} scalar scalars={result} get commit rollback flush refresh merge"
        f" bulk_save_objects bulk_insert_mappings exec={result} connection=sqlalchemy.Connection",
        plain="query=sqlalchemy.orm.Query add add_all delete begin=sqlalchemy.Transaction close",
        also="sqlalchemy.orm.session.Session sqlmodel.Session sqlalchemy.orm.scoped_session",
    )
    table.add_functions("sqlalchemy.orm", plain="sessionmaker=@sqlalchemy.orm.Session")
    table.add_aliases("sqlalchemy.orm.sessionmaker", "sqlalchemy.orm.session.sessionmaker")


def _add_stores(table: BlockingTable) -> None:
    redis_plain = (
        "pipeline=redis.Pipeline pubsub=redis.PubSub lock=redis.Lock register_script=redis.Script"
        " from_url=redis.Redis connection_pool get_encoder set_response_callback monitor=redis.PubSub"
    )
    table.add_type(
        "redis.Pipeline",
        waits="execute watch",
        plain="multi",
        leave="",
        also="redis.client.Pipeline",
    )
    table.add_type(
        "redis.PubSub",
        waits="subscribe psubscribe unsubscribe get_message listen=redis.PubSub run_in_thread?nothing",
        iteration="!",
    )
    table.add_type(
        "redis.Lock", base="threading.Lock", waits="release extend", enter="!", leave="!"
    )
    table.add_aliases("redis.Lock", "redis.lock.Lock")
    table.add_type("redis.Script")
    table.add_type(
        "redis.Redis",
        other="!",
        plain=redis_plain,
        also="redis.StrictRedis redis.RedisCluster redis.Sentinel redis.cluster.RedisCluster"
        " redis.sentinel.Sentinel valkey.Valkey fakeredis.FakeRedis fakeredis.FakeStrictRedis",
    )
    table.add_functions("redis", plain="from_url=redis.Redis Redis.from_url=redis.Redis")
    table.add_aliases("redis.from_url", "redis.utils.from_url")
    cursor = "pymongo.Cursor"
    table.add_type(
        cursor,
        waits="next to_list explain distinct count",
        plain=_results("sort limit skip batch_size hint max_time_ms", "self"),
        iteration="!",
        item="!",
        also="pymongo.CommandCursor",
    )
    table.add_type(
        "pymongo.Collection",
        other="!",
        plain=f"find={cursor} with_options=self aggregate_raw_batches find_raw_batches={cursor}",
    )
    table.add_aliases("pymongo.Collection", "pymongo.collection.Collection")
    table.add_type(
        "pymongo.Database",
        waits="list_collection_names list_collections command create_collection drop_collection"
        " validate_collection aggregate dereference",
        plain="get_collection=pymongo.Collection with_options=self",
        item="=pymongo.Collection",
        attributes="*=pymongo.Collection name=_",
        also="pymongo.database.Database",
    )
    table.add_type(
        "pymongo.MongoClient",
        waits="list_database_names list_databases server_info drop_database start_session?nothing"
        " watch",
        plain="get_database=pymongo.Database get_default_database=pymongo.Database close",
        item="=pymongo.Database",
        attributes="*=pymongo.Database",
        also="pymongo.mongo_client.MongoClient mongomock.MongoClient",
    )
    table.add_type(
        "pymemcache.Client",
        other="!",
        also="pymemcache.client.base.Client memcache.Client pylibmc.Client bmemcached.Client"
        " pymemcache.client.hash.HashClient pymemcache.PooledClient",
    )
    table.add_type(
        "elasticsearch.Elasticsearch",
        other="!",
        chains=True,
        plain="options=self close",
        also="opensearchpy.OpenSearch meilisearch.Client typesense.Client",
    )
    table.add_functions(
        "elasticsearch.helpers", "bulk reindex", "scan=os.Walk streaming_bulk=os.Walk"
    )
    table.add_type("cassandra.cluster.Cluster", waits="connect=cassandra.Session shutdown")
    table.add_type("cassandra.Session", waits="execute prepare", plain="execute_async")
    table.add_aliases("cassandra.Session", "cassandra.cluster.Session")
    table.add_functions("neo4j", plain="GraphDatabase.driver=neo4j.Driver")
    table.add_type(
        "neo4j.Driver", waits="verify_connectivity execute_query", plain="session=neo4j.Session"
    )
    table.add_type(
        "neo4j.Session", waits="run execute_read execute_write begin_transaction", leave="!"
    )
    table.add_type("clickhouse_driver.Client", waits="execute execute_iter query_dataframe")
    table.add_functions("clickhouse_connect", "get_client=clickhouse_driver.Client")
    table.add_type(
        "influxdb.InfluxDBClient", other="!", also="influxdb_client.InfluxDBClient", chains=True
    )
    table.add_type("etcd3.Client", other="!")
    table.add_functions("etcd3", plain="client=etcd3.Client")
    table.add_type("consul.Consul", other="!", chains=True)
    table.add_type("hvac.Client", other="!", chains=True)
    table.add_type("kazoo.client.KazooClient", other="!")
    table.add_type("chromadb.Client", other="!", chains=True, also="chromadb.HttpClient")
    table.add_type(
        "qdrant_client.QdrantClient", other="!", also="pinecone.Pinecone weaviate.Client"
    )


def add_libraries(table: BlockingTable) -> None:
    """Enter HTTP clients, databases and stores."""
    _add_http(table)
    _add_dbapi(table)
    _add_sqlalchemy(table)
    _add_stores(table)
