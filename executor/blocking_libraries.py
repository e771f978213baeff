"""Third-party libraries whose calls can wait, by the names their users import.

The libraries need not be installed. Only synchronous APIs are listed; their
asynchronous twins (``httpx.AsyncClient``, ``redis.asyncio``) are left out and
so never wait. The notation is described in :mod:`executor.blocking_table`.
"""

from __future__ import annotations

from executor.blocking_stores import STORES
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


def add_libraries(table: BlockingTable) -> None:
    """Enter HTTP clients, databases and stores."""
    _add_http(table)
    _add_dbapi(table)
    _add_sqlalchemy(table)
    table.enter(STORES)
