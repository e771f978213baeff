"""Third-party services, brokers, remote shells and data libraries that can wait.

The second half of the third-party table; see :mod:`executor.blocking_libraries`.
"""

from __future__ import annotations

from executor.blocking_cloud import CLOUD
from executor.blocking_data import DATA
from executor.blocking_table import BlockingTable

__all__ = ["add_services"]


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


def add_services(table: BlockingTable) -> None:
    """Enter cloud and model services, brokers, remote shells and data libraries."""
    table.enter(CLOUD)
    _add_google(table)
    _add_models(table)
    _add_brokers(table)
    _add_shells(table)
    table.enter(DATA)
