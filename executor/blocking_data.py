"""Libraries that read and write data files, and programs that wait for ever.

The notation is described in :mod:`executor.blocking_table`.
"""

from __future__ import annotations

from executor.blocking_table import Aliases, Class, Functions

__all__ = ["DATA"]

_FRAME = "pandas.DataFrame"
_READERS = (
    "read_csv read_excel read_json read_parquet read_pickle read_html read_xml read_feather"
    " read_hdf read_orc read_stata read_sas read_table read_fwf"
)
_READING = " ".join(f"{name}?memory={_FRAME}" for name in _READERS.split())
_WRITING = " ".join(
    f"to_{kind}?path0"
    for kind in "csv excel json parquet pickle html xml feather hdf markdown".split()
)

DATA: tuple[Functions | Class | Aliases, ...] = (
    Functions(
        "pandas", f"{_READING} read_sql={_FRAME} read_sql_query={_FRAME} read_sql_table={_FRAME}"
    ),
    Functions("pandas", f"read_gbq={_FRAME}", f"concat={_FRAME} merge={_FRAME}"),
    Class(
        _FRAME,
        waits=f"{_WRITING} to_sql to_gbq",
        plain="head=self tail=self copy=self dropna=self fillna=self query=self assign=self"
        " reset_index=self sort_values=self",
        item="=self",
        also="pandas.Series",
    ),
    *(
        Aliases(f"pandas.{name}", f"pandas.io.parsers.readers.{name} pandas.io.json._json.{name}")
        for name in _READERS.split()
    ),
    Functions("polars", "read_csv?memory read_parquet?memory read_json?memory read_database"),
    Functions("polars", plain="scan_csv=polars.LazyFrame scan_parquet=polars.LazyFrame"),
    Class("polars.DataFrame", waits="write_csv?path0 write_parquet write_json?path0"),
    Class(
        "polars.LazyFrame",
        waits="collect fetch sink_parquet sink_csv",
        plain="filter=self select=self",
    ),
    Functions(
        "numpy",
        "load?memory save?memory savez?memory savez_compressed?memory loadtxt?memory savetxt?memory"
        " genfromtxt?memory fromfile?memory memmap",
    ),
    Functions("joblib", "load?memory dump?memory"),
    Functions("torch", "load?memory save?memory"),
    *(
        Functions(
            module,
            "load?onlyfile safe_load?onlyfile full_load?onlyfile load_all?onlyfile"
            " safe_load_all?onlyfile dump?onlyfile safe_dump?onlyfile",
        )
        for module in ("yaml", "ruamel.yaml")
    ),
    Functions("toml", "load dump?file1"),
    *(
        Functions(module, "load?file0 dump?file1")
        for module in (
            "tomli",
            "tomli_w",
            "simplejson",
            "ujson",
            "orjson",
            "rapidjson",
            "dill",
            "cloudpickle",
        )
    ),
    Functions("dotenv", "load_dotenv dotenv_values set_key"),
    Class("PIL.Image.Image", waits="save?memory show load?nothing", plain="resize=self"),
    Functions("PIL.Image", "open?memory=PIL.Image.Image"),
    Functions("matplotlib.pyplot", "savefig?memory show imread pause imsave?memory"),
    Functions("cv2", "imread imwrite waitKey", "VideoCapture=cv2.Video"),
    Class("cv2.Video", waits="read grab"),
    Functions("openpyxl", "load_workbook?memory=openpyxl.Workbook"),
    Class("openpyxl.Workbook", waits="save?memory"),
    Functions("docx", "Document?memory"),
    Functions("pypdf", "PdfReader?memory"),
    Functions("pygame.time", "wait delay"),
    Functions("lxml.etree", "parse?file0=xml.etree.ElementTree.ElementTree"),
    Functions("fsspec", "open=io.IOBase"),
    Functions("smart_open", "open=io.IOBase"),
    Class("s3fs.S3FileSystem", other="!", also="gcsfs.GCSFileSystem"),
    Class("filelock.FileLock", base="threading.Lock", also="filelock.SoftFileLock"),
    Class("diskcache.Cache", other="!", new="!", item="!"),
    Class("watchdog.observers.Observer", base="threading.Thread", plain="schedule stop"),
    Class("tkinter.Tk", waits="mainloop"),
    Functions("gevent", "sleep joinall wait"),
    Functions("eventlet", "sleep"),
    Functions("uvicorn", "run"),
    Class("flask.Flask", waits="run"),
    Functions("tenacity", "nap.sleep"),
)
