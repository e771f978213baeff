"""The standard library's calls that wait on a network, a process or another thread.

The second half of the standard library; the notation is described in
:mod:`executor.blocking_table`.
"""

from __future__ import annotations

from executor.blocking_table import BlockingTable

__all__ = ["add_network_and_threads"]


def _add_sockets(table: BlockingTable) -> None:
    table.add_functions(
        "socket",
        "create_connection=socket.socket getaddrinfo gethostbyname gethostbyname_ex gethostbyaddr"
        " getnameinfo getfqdn",
        "socketpair=(socket.socket,socket.socket) create_server=socket.socket fromfd=socket.socket",
    )
    for name in list(table.functions):
        if name.startswith("socket."):
            table.add_aliases(name, f"_{name}")
    table.add_type(
        "socket.socket",
        waits="accept?socket=(socket.socket,_) connect?socket connect_ex?socket recv?socket"
        " recvfrom?socket recv_into?socket recvfrom_into?socket recvmsg?socket recvmsg_into?socket"
        " send?socket sendall?socket sendto?socket sendmsg?socket sendfile?socket"
        " do_handshake?socket read?socket write?socket unwrap?socket",
        plain="makefile=io.IOBase dup=self setblocking settimeout",
        also="_socket.socket socket.SocketType ssl.SSLSocket",
    )
    table.add_type(
        "ssl.SSLContext", waits="wrap_socket=socket.socket load_verify_locations?nothing"
    )
    table.add_functions("ssl", "get_server_certificate", "create_default_context=ssl.SSLContext")
    table.add_functions("select", "select?timeout3")
    table.add_type("select.poll", waits="poll?timeout0 control", also="select.epoll select.kqueue")
    table.add_aliases("select.poll", "select.devpoll")
    table.add_type(
        "selectors.DefaultSelector",
        waits="select?timeout0",
        also="selectors.SelectSelector selectors.PollSelector selectors.EpollSelector"
        " selectors.KqueueSelector selectors._BaseSelectorImpl selectors.BaseSelector",
    )
    table.add_type(
        "socketserver.BaseServer",
        waits="serve_forever handle_request shutdown",
        also="socketserver.TCPServer socketserver.UDPServer socketserver.ThreadingTCPServer"
        " http.server.HTTPServer http.server.ThreadingHTTPServer wsgiref.simple_server.WSGIServer"
        " xmlrpc.server.SimpleXMLRPCServer socketserver.ThreadingUDPServer",
    )
    table.add_functions("wsgiref.simple_server", plain="make_server=socketserver.BaseServer")


def _add_protocols(table: BlockingTable) -> None:
    table.add_type(
        "http.client.HTTPConnection",
        waits="connect request getresponse=http.client.HTTPResponse send endheaders",
        also="http.client.HTTPSConnection",
    )
    table.add_type(
        "http.client.HTTPResponse",
        base="io.IOBase",
        plain="getheader getheaders info geturl getcode",
        also="urllib.response.addinfourl",
    )
    table.add_functions(
        "urllib.request",
        "urlopen=http.client.HTTPResponse urlretrieve urlcleanup?nothing",
        "build_opener=urllib.request.OpenerDirector",
    )
    table.add_type("urllib.request.OpenerDirector", waits="open=http.client.HTTPResponse")
    table.add_type("urllib.robotparser.RobotFileParser", waits="read")
    table.add_type("xmlrpc.client.ServerProxy", other="!", chains=True, also="xmlrpc.client.Server")
    table.add_type(
        "smtplib.SMTP",
        new="!?anyargument",
        waits="connect sendmail send_message login starttls ehlo helo quit noop verify docmd mail"
        " rcpt data ehlo_or_helo_if_needed",
        leave="!",
        also="smtplib.SMTP_SSL smtplib.LMTP",
    )
    table.add_type(
        "ftplib.FTP",
        new="!?anyargument",
        waits="connect login retrbinary retrlines storbinary storlines nlst mlsd dir cwd pwd mkd"
        " rmd rename delete size quit sendcmd voidcmd transfercmd ntransfercmd abort",
        leave="!?anyargument",
        also="ftplib.FTP_TLS",
    )
    table.add_type(
        "imaplib.IMAP4",
        new="!",
        other="!",
        leave="!",
        also="imaplib.IMAP4_SSL imaplib.IMAP4_stream",
    )
    table.add_type("poplib.POP3", new="!", other="!", also="poplib.POP3_SSL")
    table.add_type("nntplib.NNTP", new="!", other="!", also="nntplib.NNTP_SSL")
    table.add_type("telnetlib.Telnet", new="!?anyargument", other="!", leave="!")


def _add_processes(table: BlockingTable) -> None:
    table.add_functions("subprocess", "run call check_call check_output getoutput getstatusoutput")
    table.add_type(
        "subprocess.Popen",
        new="!",
        waits="wait?timeout0 communicate",
        plain="poll kill terminate send_signal",
        attributes="stdout=io.IOBase stdin=io.IOBase stderr=io.IOBase",
        leave="!",
    )
    table.add_type(
        "multiprocessing.Process",
        waits="join?timeout0 run?nothing",
        also="multiprocessing.context.ForkProcess multiprocessing.context.SpawnProcess"
        " multiprocessing.context.ForkServerProcess multiprocessing.process.BaseProcess",
    )
    table.add_type(
        "multiprocessing.pool.AsyncResult",
        waits="get wait?timeout0",
        also="multiprocessing.pool.ApplyResult multiprocessing.pool.MapResult",
    )
    table.add_type("multiprocessing.pool.Results", iteration="!", waits="next")
    table.add_type(
        "multiprocessing.Pool",
        new="!",
        waits="map apply starmap join",
        plain="map_async=multiprocessing.pool.AsyncResult apply_async=multiprocessing.pool.AsyncResult"
        " starmap_async=multiprocessing.pool.AsyncResult imap=multiprocessing.pool.Results"
        " imap_unordered=multiprocessing.pool.Results",
        leave="!",
        also="multiprocessing.pool.Pool multiprocessing.pool.ThreadPool multiprocessing.dummy.Pool",
    )
    table.add_type(
        "multiprocessing.connection.Connection",
        waits="recv recv_bytes recv_bytes_into send send_bytes poll?timed0",
        also="multiprocessing.connection.PipeConnection multiprocessing.connection._ConnectionBase",
    )
    pipe = "multiprocessing.connection.Connection"
    table.add_functions(
        "multiprocessing", "Manager=multiprocessing.managers.SyncManager", f"Pipe=({pipe},{pipe})"
    )
    table.add_functions("multiprocessing.connection", f"Client={pipe} wait?timeout1")
    table.add_type("multiprocessing.connection.Listener", waits=f"accept={pipe}")
    table.add_type(
        "multiprocessing.managers.SyncManager", waits="start shutdown connect", other="!"
    )
    table.add_functions("multiprocessing", plain="get_context=@multiprocessing")
    table.add_functions("os", plain="pipe fork getpid kill", waits="")


def _add_threads(table: BlockingTable) -> None:
    table.add_type(
        "threading.Thread",
        waits="join?timeout0",
        plain="start is_alive run",
        also="threading.Timer threading._MainThread threading._DummyThread",
    )
    table.add_functions("threading", plain="main_thread=threading.Thread")
    table.add_functions("threading", plain="current_thread=threading.Thread")
    locks = " ".join(
        f"{module}.{name}"
        for module in ("threading", "multiprocessing", "multiprocessing.synchronize")
        for name in ("RLock", "Semaphore", "BoundedSemaphore", "Lock")
        if (module, name) != ("threading", "Lock")
    )
    table.add_type(
        "threading.Lock",
        waits="acquire?lock acquire_lock?lock __enter__",
        plain="release locked",
        enter="!",
        also=f"{locks} _thread.lock _thread.RLock threading._RLock _thread.allocate_lock"
        " multiprocessing.synchronize.SemLock _thread.LockType threading._CRLock",
    )
    table.add_type("multiprocessing.Shared", plain="get_lock=threading.Lock get_obj")
    shared = "Value=multiprocessing.Shared Array=multiprocessing.Shared"
    table.add_functions("multiprocessing", plain=shared)
    table.add_aliases("multiprocessing.Shared", "multiprocessing.sharedctypes.SynchronizedBase")
    table.add_type(
        "threading.Condition",
        base="threading.Lock",
        waits="wait?timeout0 wait_for?timeout1",
        plain="notify notify_all",
        also="multiprocessing.Condition multiprocessing.synchronize.Condition",
    )
    table.add_type(
        "threading.Event",
        waits="wait?timeout0",
        plain="set clear is_set",
        also="multiprocessing.Event multiprocessing.synchronize.Event",
    )
    table.add_type(
        "threading.Barrier",
        waits="wait",
        also="multiprocessing.Barrier multiprocessing.synchronize.Barrier",
    )
    table.add_type(
        "queue.Queue",
        new="=_",
        waits="get?get put?put join",
        plain="get_nowait put_nowait qsize empty full task_done",
        also="queue.LifoQueue queue.PriorityQueue multiprocessing.Queue multiprocessing.JoinableQueue"
        " multiprocessing.queues.Queue multiprocessing.queues.JoinableQueue",
    )
    table.add_type(
        "queue.SimpleQueue",
        waits="get?get",
        plain="put get_nowait put_nowait",
        also="_queue.SimpleQueue",
    )
    table.add_type(
        "multiprocessing.SimpleQueue",
        waits="get put",
        also="multiprocessing.queues.SimpleQueue",
    )


def _add_futures(table: BlockingTable) -> None:
    future = "concurrent.futures.Future"
    table.add_type(future, waits="result?timeout0 exception?timeout0", plain="done cancel")
    table.add_type("concurrent.futures.Results", iteration="!")
    table.add_type("concurrent.futures.Finished", iteration=f"!={future}")
    table.add_type(
        "concurrent.futures.Executor",
        waits="shutdown?wait0",
        plain=f"submit={future} map=concurrent.futures.Results",
        leave="!",
        also="concurrent.futures.ThreadPoolExecutor concurrent.futures.ProcessPoolExecutor"
        " concurrent.futures.InterpreterPoolExecutor",
    )
    table.add_functions(
        "concurrent.futures", "wait?timeout1", "as_completed=concurrent.futures.Finished"
    )
    table.add_aliases("concurrent.futures.wait", "concurrent.futures._base.wait")
    table.add_aliases("concurrent.futures.as_completed", "concurrent.futures._base.as_completed")


def _add_event_loops(table: BlockingTable) -> None:
    """What runs a whole event loop to its end, seen from synchronous code."""
    table.add_functions(
        "asyncio",
        "run",
        "get_event_loop=asyncio.Loop new_event_loop=asyncio.Loop get_running_loop=asyncio.Loop"
        " run_coroutine_threadsafe=concurrent.futures.Future",
    )
    for name in ("get_event_loop", "new_event_loop", "get_running_loop"):
        table.add_aliases(f"asyncio.{name}", f"asyncio.events.{name} _asyncio.{name}")
    table.add_aliases("asyncio.run", "asyncio.runners.run")
    table.add_aliases("asyncio.run_coroutine_threadsafe", "asyncio.tasks.run_coroutine_threadsafe")
    table.add_type(
        "asyncio.Loop",
        waits="run_until_complete run_forever",
        plain="run_in_executor create_task call_later close",
        also="asyncio.base_events.BaseEventLoop asyncio.AbstractEventLoop uvloop.Loop",
    )
    table.add_type("asyncio.Runner", waits="run", also="asyncio.runners.Runner")
    for module in ("anyio", "trio", "uvloop", "curio"):
        table.add_functions(module, "run")
    table.add_functions("anyio.from_thread", "run run_sync")
    table.add_functions("trio.from_thread", "run run_sync")
    table.add_functions("asgiref.sync", "async_to_sync?nothing")


def add_network_and_threads(table: BlockingTable) -> None:
    """Enter what waits on a peer: network, process, thread, event loop."""
    _add_sockets(table)
    _add_protocols(table)
    _add_processes(table)
    _add_threads(table)
    _add_futures(table)
    _add_event_loops(table)
