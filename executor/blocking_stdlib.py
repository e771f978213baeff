"""The standard library's calls that can wait on I/O, a lock, a process or a clock.

Written from the library's documentation. The notation is described in
:mod:`executor.blocking_table`. What is counted as waiting: everything that
sleeps, resolves names, sends or receives, starts or awaits a process, touches
the file system beyond building a path, takes a lock or waits for another
thread. What is not: reading a clock, ``print`` and logging to the standard
streams, environment variables, the current directory, constructors that only
remember what they were given, and starting a thread.
"""

from __future__ import annotations

from executor.blocking_table import BlockingTable

__all__ = ["add_standard_library"]


def _add_time_and_input(table: BlockingTable) -> None:
    table.add_functions("time", "sleep")
    table.add_functions("", "input breakpoint open?opener=io.IOBase help?nothing")
    table.aliases |= {"io.open": "open", "_io.open": "open", "builtins.input": "input"}
    table.aliases |= {"builtins.open": "open", "codecs.open": "open", "tokenize.open": "open"}
    table.aliases |= {"builtins.breakpoint": "breakpoint", "pdb.set_trace": "breakpoint"}
    table.aliases |= {"_pyio.open": "open", "io.FileIO": "open", "_io.FileIO": "io.IOBase"}
    table.add_functions("getpass", "getpass")
    table.add_functions("code", "interact")
    table.add_functions("pty", "spawn")
    table.add_functions("webbrowser", "open open_new open_new_tab")
    table.add_type("sched.scheduler", waits="run?blocking0", new="")
    table.add_functions("signal", "pause sigwait sigwaitinfo sigtimedwait")
    table.add_functions("fcntl", "flock?flock lockf?flock")
    table.add_functions("msvcrt", "getch getche getwch getwche locking")
    table.add_functions("readline", "read_history_file write_history_file")


def _add_files(table: BlockingTable) -> None:
    file = table.add_type(
        "io.IOBase",
        waits="read read1 readline readlines readinto readinto1 write writelines flush truncate"
        " seek peek readall close",
        plain="detach=self fileno tell isatty readable writable seekable getvalue",
        attributes="buffer=io.IOBase raw=io.IOBase file=io.IOBase",
        iteration="!",
        new="!?memory=io.BytesIO",
        also="io.TextIOWrapper io.BufferedReader io.BufferedWriter io.BufferedRandom"
        " io.TextIOBase io.RawIOBase io.BufferedIOBase io.BufferedRWPair"
        " _io.TextIOWrapper _io.BufferedReader _io.BufferedWriter _io.BufferedRandom _io._IOBase"
        " codecs.StreamReaderWriter codecs.StreamReader codecs.StreamWriter"
        " typing.TextIO typing.BinaryIO typing.IO tempfile._TemporaryFileWrapper",
    )
    file.is_file = True
    memory = table.add_type(
        "io.BytesIO",
        plain="getbuffer getvalue read",
        also="io.StringIO _io.StringIO _io.BytesIO tempfile.SpooledTemporaryFile",
    )
    memory.in_memory = True
    table.add_functions("io", "open_code=io.IOBase")
    table.add_functions("os", "popen=io.IOBase fdopen=io.IOBase")
    table.add_type("io.Standard", plain="write flush")  # output the executor itself captures
    table.add_values("sys", "stdin=io.IOBase stdout=io.Standard stderr=io.Standard")
    table.add_values("sys", "__stdin__=io.IOBase __stdout__=io.Standard __stderr__=io.Standard")
    table.add_functions(
        "tempfile",
        "TemporaryFile=io.IOBase NamedTemporaryFile=io.IOBase mkstemp mkdtemp mktemp",
        "gettempdir",
    )
    table.add_type("tempfile.TemporaryDirectory", new="!", waits="cleanup", leave="!", enter="")
    for module in ("gzip", "bz2", "lzma"):
        table.add_functions(module, "open?memory=io.IOBase")
    table.aliases |= {"gzip.GzipFile": "gzip.open", "bz2.BZ2File": "gzip.open"}
    table.aliases |= {"lzma.LZMAFile": "gzip.open"}
    table.add_functions("mmap", "mmap?anonymous")
    table.add_functions("linecache", "getline getlines checkcache updatecache")
    table.add_functions("fileinput", "", "input=io.Lines")
    table.add_type("io.Lines", iteration="!", waits="readline", also="fileinput.FileInput")
    table.add_functions("inspect", "getsource getsourcelines getcomments")
    table.add_functions("filecmp", "cmp cmpfiles dircmp")
    table.add_functions("mimetypes", "read_mime_types")
    table.add_functions("hashlib", "file_digest?memory")
    table.add_functions("runpy", "run_path run_module")
    table.add_functions("py_compile", "compile")
    table.add_functions("compileall", "compile_dir compile_file compile_path")
    table.add_functions("venv", "create")
    table.add_functions("pkgutil", "get_data")
    table.add_functions("importlib.resources", "read_text read_binary open_text=io.IOBase")
    table.add_functions("importlib.resources", plain="files=pathlib.Path")
    table.add_functions("logging", "FileHandler basicConfig?filename")
    table.add_functions("logging.handlers", "RotatingFileHandler TimedRotatingFileHandler")
    table.add_functions("logging.config", "fileConfig")


def _add_formats(table: BlockingTable) -> None:
    for module in ("json", "pickle", "marshal", "plistlib", "tomllib"):
        table.add_functions(module, "load?file0 dump?file1")
    table.add_aliases("pickle.load", "_pickle.load")
    table.add_aliases("pickle.dump", "_pickle.dump")
    table.add_type("pickle.Unpickler", waits="load?file", new="=_", also="_pickle.Unpickler")
    table.add_type("pickle.Pickler", waits="dump?file", new="=_", also="_pickle.Pickler")
    table.add_type("csv.Lines", iteration="!", item="", also="_csv.reader")
    table.add_type("csv.Writer", waits="writerow writerows writeheader", also="_csv.writer")
    table.add_functions("csv", "", "reader?onfile=csv.Lines DictReader?onfile=csv.Lines")
    table.add_functions("csv", "", "writer?onfile=csv.Writer DictWriter?onfile=csv.Writer")
    table.add_aliases("csv.reader", "_csv.reader_function")
    table.add_type(
        "configparser.ConfigParser",
        waits="read read_file?file0 write?file0",
        also="configparser.RawConfigParser",
    )
    table.add_functions("netrc", "netrc")
    table.add_type("xml.etree.ElementTree.ElementTree", waits="write?file0 parse?file0")
    for module in ("xml.etree.ElementTree", "xml.etree.cElementTree"):
        table.add_functions(module, "parse?file0=xml.etree.ElementTree.ElementTree")
        table.add_functions(module, "", "iterparse?onfile=io.Lines")
    table.add_functions("xml.dom.minidom", "parse?file0")
    table.add_functions("xml.sax", "parse?file0")
    table.add_functions("wave", "open?memory=io.IOBase")
    table.add_type(
        "shelve.Shelf",
        waits="get sync close keys values items pop setdefault update",
        item="!",
        leave="!",
        iteration="!",
        also="shelve.DbfilenameShelf",
    )
    table.add_functions("shelve", "open=shelve.Shelf")
    table.add_functions("dbm", "open=shelve.Shelf whichdb")
    for kind in ("dumb", "gnu", "ndbm", "sqlite3"):
        table.add_functions(f"dbm.{kind}", "open=shelve.Shelf")
    table.add_type(
        "zipfile.ZipFile",
        new="!?memory=io.BytesIO",
        waits="read write writestr extract extractall open=io.IOBase testzip close mkdir",
        leave="!",
    )
    table.add_functions("zipfile", "is_zipfile?file0")
    table.add_type("zipfile.Path", base="", waits="read_text read_bytes open iterdir exists")
    table.add_functions("tarfile", "open?memory=tarfile.TarFile is_tarfile?file0")
    table.add_type(
        "tarfile.TarFile",
        new="!?memory=io.BytesIO",
        waits="extract extractall extractfile=io.IOBase add addfile close getmembers getnames next"
        " getmember list",
        iteration="!",
        leave="!",
    )
    table.aliases["tarfile.TarFile.open"] = "tarfile.open"


def _add_os(table: BlockingTable) -> None:
    table.add_functions(
        "os",
        "system wait wait3 wait4 waitid waitpid?waitpid spawnl spawnle spawnlp spawnlpe spawnv"
        " spawnve spawnvp spawnvpe posix_spawn posix_spawnp startfile forkpty"
        " open read write pread preadv pwrite pwritev readv writev sendfile copy_file_range splice"
        " fsync fdatasync sync ftruncate truncate lockf posix_fallocate fstat close?nothing"
        " listdir stat lstat statvfs mkdir makedirs mkfifo mknod remove unlink rename renames"
        " replace rmdir removedirs link symlink readlink chmod lchmod chown lchown utime access"
        " getxattr setxattr listxattr removexattr",
        "walk=os.Walk fwalk=os.Walk getcwd getpid environ scandir=os.Entries",
    )
    table.functions["os.scandir"] = table.functions["os.scandir"]._replace(waits=True)
    table.add_aliases("os", "posix nt")
    for name in list(table.functions):
        if name.startswith("os."):
            table.add_aliases(name, f"posix.{name[3:]} nt.{name[3:]}")
    table.add_type("os.Walk", iteration="!")
    table.add_type("os.Entries", iteration="!=os.DirEntry", plain="close")
    table.add_type("os.DirEntry", waits="stat is_file is_dir is_symlink is_junction")
    table.add_aliases("os.DirEntry", "posix.DirEntry")
    table.add_functions(
        "os.path",
        "exists lexists isfile isdir islink ismount isjunction isdevdrive getsize getmtime"
        " getatime getctime samefile sameopenfile realpath",
    )
    for name in list(table.functions):
        if name.startswith("os.path."):
            last = name.rpartition(".")[2]
            table.add_aliases(name, f"posixpath.{last} ntpath.{last} genericpath.{last}")
    table.add_aliases("os.path", "posixpath ntpath genericpath")
    table.add_functions(
        "shutil",
        "copy copy2 copyfile copymode copystat copytree rmtree move make_archive unpack_archive"
        " disk_usage chown which copyfileobj?bothmemory",
    )
    table.add_functions("glob", "glob", "iglob=os.Walk")
    table.add_aliases("glob.glob", "glob.glob1")


def _add_paths(table: BlockingTable) -> None:
    table.add_type(
        "pathlib.PurePath",
        plain="with_suffix=self with_name=self with_stem=self with_segments=self joinpath=self"
        " relative_to=self as_posix as_uri is_absolute is_relative_to match full_match",
        attributes="parent=self parents=[self]",
        also="pathlib.PurePosixPath pathlib.PureWindowsPath",
    )
    table.add_type(
        "pathlib.Path",
        base="pathlib.PurePath",
        waits="exists is_file is_dir is_symlink is_socket is_fifo is_block_device is_char_device"
        " is_mount is_junction stat lstat owner group read_text read_bytes write_text write_bytes"
        " open=io.IOBase mkdir rmdir unlink rename=self replace=self touch chmod lchmod symlink_to"
        " hardlink_to link_to readlink=self resolve=self samefile iterdir=[pathlib.Path] copy=self"
        " copy_into=self move=self move_into=self",
        plain="glob=pathlib.Found rglob=pathlib.Found walk=os.Walk absolute=self expanduser=self"
        " cwd=pathlib.Path home=pathlib.Path",
        also="pathlib.PosixPath pathlib.WindowsPath importlib.resources.abc.Traversable",
    )
    table.add_functions("pathlib", plain="Path.cwd=pathlib.Path Path.home=pathlib.Path")
    table.add_type("pathlib.Found", iteration="!=pathlib.Path")


def _add_sqlite(table: BlockingTable) -> None:
    table.add_functions("sqlite3", "connect=sqlite3.Connection")
    table.add_type(
        "sqlite3.Cursor",
        waits="execute=self executemany=self executescript=self fetchone fetchmany fetchall",
        iteration="!",
        also="_sqlite3.Cursor",
    )
    table.add_type(
        "sqlite3.Connection",
        new="!",
        waits="execute=sqlite3.Cursor executemany=sqlite3.Cursor executescript=sqlite3.Cursor"
        " commit rollback backup iterdump=[_] load_extension blobopen=io.IOBase serialize"
        " deserialize close",
        plain="cursor=sqlite3.Cursor",
        leave="!",
        also="_sqlite3.Connection",
    )


def add_standard_library(table: BlockingTable) -> None:
    """Enter what touches clocks, files and the operating system."""
    _add_time_and_input(table)
    _add_files(table)
    _add_formats(table)
    _add_os(table)
    _add_paths(table)
    _add_sqlite(table)
