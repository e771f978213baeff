"""Third-party services, brokers, remote shells and data libraries that can wait.

The second half of the third-party table; see :mod:`executor.blocking_libraries`.
"""

from __future__ import annotations

from executor.blocking_table import BlockingTable

__all__ = ["add_services"]


def _add_cloud(table: BlockingTable) -> None:
    table.add_type(
        "boto3.Client",
        other="!",
        plain="get_paginator=boto3.Paginator get_waiter=boto3.Waiter can_paginate"
        " generate_presigned_url generate_presigned_post close exceptions meta",
        also="botocore.client.BaseClient",
    )
    table.add_type("boto3.Paginator", plain="paginate=boto3.Pages")
    table.add_aliases("boto3.Paginator", "botocore.paginate.Paginator")
    table.add_type(
        "boto3.Pages", iteration="!", waits="build_full_result", plain="search=boto3.Pages"
    )
    table.add_aliases("boto3.Pages", "botocore.paginate.PageIterator")
    table.add_type("boto3.Waiter", waits="wait", also="botocore.waiter.Waiter")
    actions = (
        "upload_file upload_fileobj download_file download_fileobj put_object get put delete copy"
        " delete_object delete_objects create wait_until_exists wait_until_not_exists load reload"
        " put_item get_item update_item delete_item query scan batch_get_item send_message"
        " receive_messages send_messages publish copy_from terminate start stop reboot purge"
        " create_bucket create_table"
    )
    table.add_type("boto3.Objects", iteration="!=boto3.Resource", waits="delete")
    table.add_type(
        "boto3.Resource",
        waits=actions,
        plain=" ".join(
            f"{name}=boto3.Resource"
            for name in [
                "Bucket",
                "Object",
                "Table",
                "Queue",
                "Topic",
                "Instance",
                "ObjectSummary",
                "Key",
                "Stack",
            ]
        )
        + " batch_writer=boto3.BatchWriter get_queue_by_name=boto3.Resource",
        attributes="objects=boto3.Collection buckets=boto3.Collection instances=boto3.Collection"
        " tables=boto3.Collection queues=boto3.Collection meta=boto3.Meta",
        also="boto3.resources.base.ServiceResource",
    )
    resource = table.types["boto3.Resource"]
    resource.methods["get_queue_by_name"] = resource.methods["get_queue_by_name"]._replace(
        waits=True
    )
    table.add_type(
        "boto3.Collection",
        plain="all=boto3.Objects filter=boto3.Objects limit=boto3.Objects page_size=boto3.Objects",
        waits="delete",
    )
    table.add_type("boto3.Meta", attributes="client=boto3.Client")
    table.add_type("boto3.BatchWriter", waits="put_item delete_item", leave="!")
    for owner in ("boto3", "boto3.Session", "botocore.session.Session"):
        table.add_functions(owner, plain="client=boto3.Client resource=boto3.Resource")
    table.add_type(
        "boto3.Session",
        plain="client=boto3.Client resource=boto3.Resource create_client=boto3.Client",
        also="boto3.session.Session botocore.session.Session",
    )
    table.add_functions("botocore.session", plain="get_session=boto3.Session")
    _add_google(table)
    table.add_type(
        "azure.storage.blob.BlobServiceClient",
        waits="create_container list_containers delete_container upload_blob download_blob"
        " list_blobs delete_blob exists get_blob_properties readall",
        plain="get_container_client=self get_blob_client=self from_connection_string=self",
        also="azure.storage.blob.ContainerClient azure.storage.blob.BlobClient",
    )
    azure = "azure.storage.blob.BlobServiceClient"
    table.add_functions(azure, plain=f"from_connection_string={azure}")


def _add_google(table: BlockingTable) -> None:
    blob = "google.cloud.storage.Blob"
    table.add_type(
        blob,
        waits="upload_from_filename upload_from_string upload_from_file download_to_filename"
        " download_as_bytes download_as_text download_as_string exists delete reload patch"
        " open=io.IOBase make_public",
    )
    table.add_type(
        "google.cloud.storage.Bucket",
        waits=f"get_blob={blob} list_blobs=[{blob}] delete_blob exists create delete copy_blob reload",
        plain=f"blob={blob}",
    )
    bucket = "google.cloud.storage.Bucket"
    table.add_type(
        "google.cloud.storage.Client",
        waits=f"get_bucket={bucket} list_buckets=[{bucket}] create_bucket={bucket} list_blobs=[{blob}]"
        " download_blob_to_file",
        plain=f"bucket={bucket}",
    )
    job = "google.cloud.bigquery.Job"
    table.add_type(job, waits="result to_dataframe done exists reload", iteration="!")
    table.add_type(
        "google.cloud.bigquery.Client",
        waits=f"query={job} query_and_wait={job} get_table list_tables insert_rows_json list_datasets"
        f" load_table_from_dataframe={job} load_table_from_file={job} load_table_from_uri={job}"
        " create_table delete_table list_rows create_dataset delete_dataset get_dataset",
    )
    table.add_type(
        "google.cloud.pubsub_v1.PublisherClient",
        waits="create_topic list_topics delete_topic",
        plain="publish=concurrent.futures.Future topic_path",
    )
    table.add_type(
        "google.cloud.pubsub_v1.SubscriberClient",
        waits="pull acknowledge create_subscription",
        plain="subscribe=concurrent.futures.Future subscription_path",
    )
    for path in ("firestore.Client", "datastore.Client", "vision.ImageAnnotatorClient"):
        table.add_type(
            f"google.cloud.{path}",
            waits="get put query add set update delete stream label_detection text_detection",
            plain="collection=self document=self where=self",
        )


_RESOURCE_CALLS = (
    "create list retrieve delete update cancel generate edit parse content count_tokens complete"
    " chat embed rerank embeddings generate_content stream run upload poll"
)


def _add_models(table: BlockingTable) -> None:
    """Clients of model services: any chain of attributes ends in a request."""
    table.add_type("openai.Stream", iteration="!", leave="", also="anthropic.Stream")
    table.add_type(
        "openai.OpenAI",
        other="!",
        chains=True,
        plain="with_options=self copy=self with_raw_response close with_streaming_response",
        also="openai.AzureOpenAI anthropic.Anthropic anthropic.AnthropicBedrock"
        " anthropic.AnthropicVertex groq.Groq cohere.Client cohere.ClientV2 mistralai.Mistral"
        " mistralai.client.MistralClient ollama.Client together.Together replicate.Client"
        " huggingface_hub.InferenceClient google.genai.Client litellm.Client"
        " openai.resources.Completions anthropic.Client openai.Client zhipuai.ZhipuAI"
        " openai.SyncAPIResource",
    )
    table.add_functions("ollama", "chat generate embeddings embed list pull push show")
    table.add_functions("replicate", "run")
    table.add_functions("litellm", "completion embedding")
    for name in ("ChatCompletion", "Completion", "Embedding", "Image", "Audio", "Moderation"):
        table.add_functions(f"openai.{name}", "create")
    for name in ("chat.completions", "completions", "embeddings", "images", "models", "files"):
        table.add_functions(f"openai.{name}", "create list retrieve generate")
    table.add_type("google.generativeai.GenerativeModel", waits="generate_content count_tokens")
    table.add_functions("huggingface_hub", "hf_hub_download snapshot_download login")
    table.add_functions("datasets", "load_dataset load_from_disk")
    table.add_type("stripe.Resource", other="!")
    for name in [
        "Charge",
        "Customer",
        "PaymentIntent",
        "Invoice",
        "Subscription",
        "Refund",
        "Product",
        "Price",
    ]:
        table.add_functions(f"stripe.{name}", "create retrieve list modify delete search")
    table.add_type(
        "slack_sdk.WebClient",
        other="!",
        also="slack_sdk.web.client.WebClient slack.WebClient twilio.rest.Client github.Github"
        " gitlab.Gitlab praw.Reddit tweepy.API tweepy.Client telebot.TeleBot jira.JIRA"
        " sendgrid.SendGridAPIClient notion_client.Client googleapiclient.discovery.Resource",
        chains=True,
    )
    table.add_functions("googleapiclient.discovery", "build=googleapiclient.discovery.Resource")


def _add_brokers(table: BlockingTable) -> None:
    channel = "pika.Channel"
    table.add_type(
        channel,
        other="!",
        plain="add_on_return_callback",
        also="pika.adapters.blocking_connection.BlockingChannel pika.BlockingChannel",
    )
    table.add_type(
        "pika.BlockingConnection",
        new="!",
        waits=f"channel={channel} close process_data_events sleep",
        leave="!",
        also="pika.adapters.blocking_connection.BlockingConnection",
    )
    table.add_type(
        "kafka.KafkaConsumer",
        new="!",
        waits="poll commit seek_to_beginning seek_to_end partitions_for_topic topics end_offsets"
        " beginning_offsets position close",
        iteration="!",
    )
    table.add_type(
        "kafka.KafkaProducer", new="!", waits="flush close send=kafka.Sent partitions_for"
    )
    table.add_type("kafka.Sent", waits="get")
    table.add_type("kafka.KafkaAdminClient", new="!", other="!")
    table.add_type(
        "confluent_kafka.Consumer", waits="poll consume commit close list_topics committed position"
    )
    table.add_type(
        "confluent_kafka.Producer",
        waits="flush poll?timed0 list_topics",
        plain="produce",
        also="confluent_kafka.SerializingProducer",
    )
    table.add_type("celery.result.AsyncResult", waits="get wait", also="celery.result.EagerResult")
    table.add_type(
        "kombu.Connection",
        waits="connect drain_events ensure_connection",
        plain="channel SimpleQueue=kombu.SimpleQueue Producer=kombu.Producer Consumer",
    )
    table.add_type("kombu.SimpleQueue", waits="get put")
    table.add_type("kombu.Producer", waits="publish")
    table.add_type(
        "paho.mqtt.client.Client", waits="connect loop loop_forever reconnect", plain="publish"
    )
    table.add_functions("paho.mqtt.publish", "single multiple")
    table.add_functions("paho.mqtt.subscribe", "simple callback")
    table.add_type("zmq.Context", plain="socket=zmq.Socket", waits="term destroy", leave="!")
    table.add_type(
        "zmq.Socket",
        waits="recv?zmq recv_string?zmq recv_json?zmq recv_pyobj?zmq recv_multipart?zmq send?zmq"
        " send_string?zmq send_json?zmq send_pyobj?zmq send_multipart?zmq poll?timeout0",
    )
    table.add_functions("zmq", "proxy", "Context.instance=zmq.Context")
    table.add_type("zmq.Poller", waits="poll?timeout0")
    table.add_type("stomp.Connection", waits="connect send")
    table.add_functions("grpc", "", "insecure_channel=grpc.Channel secure_channel=grpc.Channel")
    table.add_type("grpc.Channel", plain="unary_unary=grpc.Call unary_stream=grpc.Call")
    table.add_functions("grpc", "", "channel_ready_future=concurrent.futures.Future")


def _add_shells(table: BlockingTable) -> None:
    table.add_type(
        "paramiko.SSHClient",
        waits="connect exec_command=(io.IOBase,io.IOBase,io.IOBase) open_sftp=paramiko.SFTPClient"
        " invoke_shell=socket.socket load_system_host_keys load_host_keys save_host_keys",
        leave="",
    )
    table.add_type("paramiko.SFTPClient", other="!", plain="close")
    table.add_functions("paramiko", plain="SFTPClient.from_transport=paramiko.SFTPClient")
    table.add_type(
        "paramiko.Transport",
        new="!",
        waits="connect start_client auth_password auth_publickey open_session=socket.socket",
        plain="close",
    )
    table.add_aliases("socket.socket", "paramiko.Channel")
    table.add_type(
        "fabric.Connection", waits="run sudo local get put open", also="fabric2.Connection"
    )
    table.add_functions("invoke", "run")
    table.add_functions("pexpect", "run spawn=pexpect.Child")
    table.add_type(
        "pexpect.Child", waits="expect expect_exact read readline wait interact sendline send"
    )
    table.add_aliases("pexpect.Child", "pexpect.pty_spawn.spawn")
    table.add_type("serial.Serial", new="!?anyargument", base="io.IOBase", waits="open read_until")
    table.add_type("git.Repo", new="!", other="!", chains=True)
    table.add_functions("git", "Repo.clone_from=git.Repo Repo.init=git.Repo")
    table.add_type("docker.Client", other="!", chains=True, also="docker.DockerClient")
    table.add_functions("docker", plain="from_env=docker.Client")
    table.add_type("kubernetes.client.CoreV1Api", other="!", also="kubernetes.client.AppsV1Api")
    table.add_functions("kubernetes.config", "load_kube_config load_incluster_config")
    table.add_type("ldap3.Connection", waits="bind search unbind modify add delete")
    table.add_functions("dns.resolver", "resolve query")
    table.add_functions("psutil", "cpu_percent?timed0 cpu_times_percent?timed0 wait_procs")
    table.add_type("psutil.Process", waits="wait cpu_percent?timed0", also="psutil.Popen")
    table.add_functions("schedule", "run_pending run_all")
    driver = (
        "get find_element find_elements execute_script refresh back forward quit close screenshot"
    )
    driver += " save_screenshot"
    for name in ("Chrome", "Firefox", "Edge", "Safari", "Remote"):
        table.add_type(f"selenium.webdriver.{name}", new="!", waits=driver, leave="!")
    table.add_type("selenium.webdriver.support.ui.WebDriverWait", waits="until until_not")
    table.add_functions("playwright.sync_api", plain="sync_playwright=playwright.sync_api.Entry")
    table.add_type("playwright.sync_api.Entry", enter="!=playwright.sync_api.Playwright", leave="!")
    table.add_type("playwright.sync_api.Playwright", other="!", chains=True)


def _add_data(table: BlockingTable) -> None:
    frame = "pandas.DataFrame"
    readers = (
        "read_csv read_excel read_json read_parquet read_pickle read_html read_xml read_feather"
        " read_hdf read_orc read_stata read_sas read_table read_fwf"
    )
    readers = " ".join(f"{name}?memory={frame}" for name in readers.split())
    writers = (
        "to_csv to_excel to_json to_parquet to_pickle to_html to_xml to_feather to_hdf to_markdown"
    )
    writers = " ".join(f"{name}?path0" for name in writers.split())
    table.add_functions(
        "pandas", f"{readers} read_sql={frame} read_sql_query={frame} read_sql_table={frame}"
    )
    table.add_functions("pandas", f"read_gbq={frame}", f"concat={frame} merge={frame}")
    table.add_type(
        frame,
        waits=f"{writers} to_sql to_gbq",
        plain="head=self tail=self copy=self dropna=self fillna=self query=self assign=self"
        " reset_index=self sort_values=self",
        item="=self",
        also="pandas.Series",
    )
    for reader in readers.split():
        name = reader.partition("?")[0]
        table.add_aliases(
            f"pandas.{name}", f"pandas.io.parsers.readers.{name} pandas.io.json._json.{name}"
        )
    table.add_functions(
        "polars", "read_csv?memory read_parquet?memory read_json?memory read_database"
    )
    table.add_functions("polars", plain="scan_csv=polars.LazyFrame scan_parquet=polars.LazyFrame")
    table.add_type("polars.DataFrame", waits="write_csv?path0 write_parquet write_json?path0")
    table.add_type(
        "polars.LazyFrame",
        waits="collect fetch sink_parquet sink_csv",
        plain="filter=self select=self",
    )
    table.add_functions(
        "numpy",
        "load?memory save?memory savez?memory savez_compressed?memory loadtxt?memory savetxt?memory"
        " genfromtxt?memory fromfile?memory memmap",
    )
    table.add_functions("joblib", "load?memory dump?memory")
    table.add_functions("torch", "load?memory save?memory")
    for module in ("yaml", "ruamel.yaml"):
        table.add_functions(
            module,
            "load?onlyfile safe_load?onlyfile full_load?onlyfile load_all?onlyfile"
            " safe_load_all?onlyfile dump?onlyfile safe_dump?onlyfile",
        )
    table.add_functions("toml", "load dump?file1")
    for module in (
        "tomli",
        "tomli_w",
        "simplejson",
        "ujson",
        "orjson",
        "rapidjson",
        "dill",
        "cloudpickle",
    ):
        table.add_functions(module, "load?file0 dump?file1")
    table.add_functions("dotenv", "load_dotenv dotenv_values set_key")
    table.add_type("PIL.Image.Image", waits="save?memory show load?nothing", plain="resize=self")
    table.add_functions("PIL.Image", "open?memory=PIL.Image.Image")
    table.add_functions("matplotlib.pyplot", "savefig?memory show imread pause imsave?memory")
    table.add_functions("cv2", "imread imwrite waitKey", "VideoCapture=cv2.Video")
    table.add_type("cv2.Video", waits="read grab")
    table.add_functions("openpyxl", "load_workbook?memory=openpyxl.Workbook")
    table.add_type("openpyxl.Workbook", waits="save?memory")
    table.add_functions("docx", "Document?memory")
    table.add_functions("pypdf", "PdfReader?memory")
    table.add_functions("pygame.time", "wait delay")
    table.add_functions("lxml.etree", "parse?file0=xml.etree.ElementTree.ElementTree")
    table.add_functions("fsspec", "open=io.IOBase")
    table.add_functions("smart_open", "open=io.IOBase")
    table.add_type("s3fs.S3FileSystem", other="!", also="gcsfs.GCSFileSystem")
    table.add_type("filelock.FileLock", base="threading.Lock", also="filelock.SoftFileLock")
    table.add_type("diskcache.Cache", other="!", new="!", item="!")
    table.add_type("watchdog.observers.Observer", base="threading.Thread", plain="schedule stop")
    table.add_type("tkinter.Tk", waits="mainloop")
    table.add_functions("gevent", "sleep joinall wait")
    table.add_functions("eventlet", "sleep")
    table.add_functions("uvicorn", "run")
    table.add_type("flask.Flask", waits="run")
    table.add_functions("tenacity", "nap.sleep")


def add_services(table: BlockingTable) -> None:
    """Enter cloud and model services, brokers, remote shells and data libraries."""
    _add_cloud(table)
    _add_models(table)
    _add_brokers(table)
    _add_shells(table)
    _add_data(table)
