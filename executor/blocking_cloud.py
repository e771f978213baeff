"""Clients of AWS and Azure: what of them can wait.

The notation is described in :mod:`executor.blocking_table`.
"""

from __future__ import annotations

from executor.blocking_table import Aliases, Class, Functions

__all__ = ["CLOUD"]

_ACTIONS = (
    "upload_file upload_fileobj download_file download_fileobj put_object get put delete copy"
    " delete_object delete_objects create wait_until_exists wait_until_not_exists load reload"
    " put_item get_item update_item delete_item query scan batch_get_item send_message"
    " receive_messages send_messages publish copy_from terminate start stop reboot purge"
    " create_bucket create_table"
)
_AZURE = "azure.storage.blob.BlobServiceClient"

CLOUD: tuple[Functions | Class | Aliases, ...] = (
    Class(
        "boto3.Client",
        other="!",
        plain="get_paginator=boto3.Paginator get_waiter=boto3.Waiter can_paginate"
        " generate_presigned_url generate_presigned_post close exceptions meta",
        also="botocore.client.BaseClient",
    ),
    Class("boto3.Paginator", plain="paginate=boto3.Pages"),
    Aliases("boto3.Paginator", "botocore.paginate.Paginator"),
    Class("boto3.Pages", iteration="!", waits="build_full_result", plain="search=boto3.Pages"),
    Aliases("boto3.Pages", "botocore.paginate.PageIterator"),
    Class("boto3.Waiter", waits="wait", also="botocore.waiter.Waiter"),
    Class("boto3.Objects", iteration="!=boto3.Resource", waits="delete"),
    Class(
        "boto3.Resource",
        waits=f"{_ACTIONS} get_queue_by_name=boto3.Resource",
        plain="Bucket=boto3.Resource Object=boto3.Resource Table=boto3.Resource"
        " Queue=boto3.Resource Topic=boto3.Resource Instance=boto3.Resource"
        " ObjectSummary=boto3.Resource Key=boto3.Resource Stack=boto3.Resource"
        " batch_writer=boto3.BatchWriter",
        attributes="objects=boto3.Collection buckets=boto3.Collection instances=boto3.Collection"
        " tables=boto3.Collection queues=boto3.Collection meta=boto3.Meta",
        also="boto3.resources.base.ServiceResource",
    ),
    Class(
        "boto3.Collection",
        plain="all=boto3.Objects filter=boto3.Objects limit=boto3.Objects page_size=boto3.Objects",
        waits="delete",
    ),
    Class("boto3.Meta", attributes="client=boto3.Client"),
    Class("boto3.BatchWriter", waits="put_item delete_item", leave="!"),
    *(
        Functions(owner, plain="client=boto3.Client resource=boto3.Resource")
        for owner in ("boto3", "boto3.Session", "botocore.session.Session")
    ),
    Class(
        "boto3.Session",
        plain="client=boto3.Client resource=boto3.Resource create_client=boto3.Client",
        also="boto3.session.Session botocore.session.Session",
    ),
    Functions("botocore.session", plain="get_session=boto3.Session"),
    Class(
        _AZURE,
        waits="create_container list_containers delete_container upload_blob download_blob"
        " list_blobs delete_blob exists get_blob_properties readall",
        plain="get_container_client=self get_blob_client=self from_connection_string=self",
        also="azure.storage.blob.ContainerClient azure.storage.blob.BlobClient",
    ),
    Functions(_AZURE, plain=f"from_connection_string={_AZURE}"),
)
