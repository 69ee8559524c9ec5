"""Runs one emulator of AWS on a free port of loopback, says which, and ends it when its own input ends.

    start.py ministack | moto | guarded
"""

import os
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(sys.executable)

# moto looks at an item and changes it in two steps without a lock, so that two conditional updates at once may both pass.
# DynamoDB promises one after the other for one item, so they are let through to moto one at a time.
SERIAL_MOTO = """
import sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

moto, one = DomainDispatcherApplication(create_backend_app), threading.Lock()

def serial(environ, start_response):
    if environ.get("HTTP_X_AMZ_TARGET", "").startswith("DynamoDB"):
        with one:
            return moto(environ, start_response)
    return moto(environ, start_response)

run_simple("127.0.0.1", int(sys.argv[1]), serial, threaded=True)
"""


# moto looks at policies if it is told to, but knows no resources of SQS and DynamoDB, and takes a batch for a permission of its own. This
# tells it both, as AWS's service authorization reference has them. The key "synthetic" is the administrator's.
GUARD = """
import json
from moto import settings
from moto.core.authorization import ActionAuthenticatorMixin
from moto.iam.access_control import IAMRequestBase

settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
authorize, check = ActionAuthenticatorMixin._authenticate_and_authorize_action, IAMRequestBase.check_action_permitted


def authorize_all_but_one(self, request, resource="*"):
    if "Credential=synthetic/" not in self.headers.get("Authorization", ""):
        authorize(self, request, resource)


def resources(request, resource):
    if request._service not in ("dynamodb", "sqs"):
        return [resource]
    body, arn = json.loads(request._body), f"arn:aws:{request._service}:{request._region}:{request.account_id}:"
    if request._service == "sqs":
        return [arn + (body.get("QueueName") or body["QueueUrl"].rsplit("/", 1)[-1])]
    index = f"/index/{body['IndexName']}" if "IndexName" in body else ""
    return [f"{arn}table/{table}{index}" for table in body.get("RequestItems") or [body["TableName"]]]


def check_each(self, resource):
    self._action = self._action.removesuffix("Batch")
    for one in resources(self, resource):
        check(self, one)


ActionAuthenticatorMixin._authenticate_and_authorize_action = authorize_all_but_one
IAMRequestBase.check_action_permitted = check_each
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command(name, port):
    if name == "ministack":
        settings = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "MINISTACK_HOST": "127.0.0.1"}
        return [os.path.join(HERE, "ministack")], {**os.environ, **settings}
    program = GUARD + SERIAL_MOTO if name == "guarded" else SERIAL_MOTO
    return [sys.executable, "-c", program, str(port)], None


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def main():
    port = free_port()
    arguments, environment = command(sys.argv[1], port)
    server = subprocess.Popen(
        arguments, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not answers(port):
            if server.poll() is not None:
                sys.exit(f"{sys.argv[1]} ended at once, with code {server.returncode}")
            time.sleep(0.05)
        print(port, flush=True)
        sys.stdin.read()
    finally:
        server.kill()
        server.wait()


main()
