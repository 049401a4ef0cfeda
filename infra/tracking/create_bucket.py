"""Creates the bucket named in its argument on the S3 server at $MLFLOW_S3_ENDPOINT_URL, unless it is there.

Runs once, beside `mlflow db upgrade`; the keys are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
"""

import os
import sys

import boto3
from botocore.exceptions import ClientError


def main() -> int:
    """Creates the bucket; returns the exit status."""
    name = sys.argv[1]
    client = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    try:
        client.head_bucket(Bucket=name)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
            print(f"error: bucket {name}: {error}", file=sys.stderr)
            return 4
        client.create_bucket(Bucket=name)
        print(f"bucket {name} created")
    return 0


if __name__ == "__main__":
    sys.exit(main())
