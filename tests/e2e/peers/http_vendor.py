"""Plays the HTTP endpoint of a vendor of texts on 127.0.0.1 and judges each request as it arrived by that vendor's own code:
alibabacloud-openapi-util, tencentcloud-sdk-python-common, twilio. A request whose signature that code would not have made is refused
in the vendor's words.

http_vendor.py aliyun|aliyun-voice|tencent|twilio|vonage KEY SECRET

Says {"listening": port}, then {"request": ..., "right": true or false} for each. Reads orders, a JSON object a line:
{"post": URL, "json": ... or "form": {...}} brings something to the relay, signed by twilio's RequestValidator if "sign" is a token, and
is answered {"posted": status, "body": ...}. By HTTPS only the certificate "vouches" (PEM), whatever name it bears, is believed.
"""

import base64
import json
import logging
import ssl
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VENDOR, KEY, SECRET = sys.argv[1:4]
saying = threading.Lock()
count = 0


def tell(what):
    with saying:
        print(json.dumps(what), flush=True)


def aliyun(method, path, query, headers, body):
    from alibabacloud_openapi_util.client import Client
    from Tea.request import TeaRequest

    request = TeaRequest()
    request.method, request.pathname = method, path
    request.query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    signed = ("host", "content-type")
    request.headers = {k: v for k, v in headers.items() if k in signed or k.startswith("x-acs-")}
    payload = Client.hex_encode(Client.hash(body, "ACS3-HMAC-SHA256"))
    wanted = Client.get_authorization(request, "ACS3-HMAC-SHA256", payload, KEY, SECRET)
    right = headers.get("authorization") == wanted and headers["x-acs-content-sha256"] == payload
    return right, request.query


def tencent(method, path, query, headers, body):
    from tencentcloud.common.abstract_client import AbstractClient
    from tencentcloud.common.credential import Credential
    from tencentcloud.common.profile.client_profile import ClientProfile

    class Request:
        pass

    request = Request()
    request.method, request.uri, request.data = method, path, body
    names = {"content-type": "Content-Type", "host": "Host", "x-tc-timestamp": "X-TC-Timestamp"}
    request.header = {shown: headers[name] for name, shown in names.items()}
    client = AbstractClient(Credential(KEY, SECRET), "ap-guangzhou", ClientProfile())
    from datetime import datetime, timezone

    date = datetime.fromtimestamp(int(headers["x-tc-timestamp"]), timezone.utc).strftime("%Y-%m-%d")
    signature = client._get_tc3_signature({}, request, date, "sms", SECRET)
    wanted = (
        f"TC3-HMAC-SHA256 Credential={KEY}/{date}/sms/tc3_request, SignedHeaders=content-type;host, Signature={signature}"
    )
    actions = (headers["x-tc-action"], headers["x-tc-version"]) == ("SendSms", "2021-01-11")
    return headers.get("authorization") == wanted and actions, json.loads(body)


def twilio(method, path, query, headers, body):
    """Right is what twilio's own client would have asked for the same message."""
    from twilio.http import HttpClient
    from twilio.rest import Client

    form = dict(urllib.parse.parse_qsl(body.decode(), keep_blank_values=True))

    class Asked(Exception):
        pass

    class Keeping(HttpClient):
        def request(self, method, uri, params=None, data=None, headers=None, auth=None, **_):
            raise Asked(method, uri, data, auth)

    names = {"From": "from_", "To": "to", "Body": "body", "StatusCallback": "status_callback"}
    try:
        Client(KEY, SECRET, http_client=Keeping(logging.getLogger(), False)).messages.create(**{names[n]: value for n, value in form.items()})
    except Asked as asked:
        wanted_method, uri, data, auth = asked.args
    basic = "Basic " + base64.b64encode(":".join(auth).encode()).decode()
    data = {name: value for name, value in data.items() if isinstance(value, str)}
    right = (method, path) == (wanted_method, urllib.parse.urlparse(uri).path)
    return right and headers.get("authorization") == basic and form == data, form


def vonage(method, path, query, headers, body):
    form = dict(urllib.parse.parse_qsl(body.decode(), keep_blank_values=True))
    return (form["api_key"], form["api_secret"], path) == (KEY, SECRET, "/sms/json"), form


def answer(right, number):
    name = f"{VENDOR}-{number}"
    if VENDOR.startswith("aliyun"):
        key = "CallId" if VENDOR == "aliyun-voice" else "BizId"
        good = {"Code": "OK", "Message": "OK", "RequestId": "r", key: name}
        return (200, good) if right else (400, {"Code": "SignatureDoesNotMatch", "Message": f"not by {SECRET}"})
    if VENDOR == "tencent":
        good = {"SendStatusSet": [{"SerialNo": name, "Code": "Ok", "Message": "send success"}], "RequestId": "r"}
        bad = {"Error": {"Code": "AuthFailure.SignatureFailure", "Message": f"not by {SECRET}"}, "RequestId": "r"}
        return 200, {"Response": good if right else bad}
    if VENDOR == "twilio":
        good = {"sid": name, "status": "queued", "error_code": None, "error_message": None}
        return (201, good) if right else (401, {"code": 20003, "message": "Authenticate", "status": 401})
    good, bad = {"message-id": name, "status": "0"}, {"status": "4", "error-text": "Bad Credentials"}
    return 200, {"message-count": "1", "messages": [good if right else bad]}


JUDGES = {"aliyun": aliyun, "aliyun-voice": aliyun, "tencent": tencent, "twilio": twilio, "vonage": vonage}


class Vendor(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global count
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            right, said = JUDGES[VENDOR](self.command, path, query, headers, body)
        except Exception as error:  # what the vendor's code does not bear is wrong
            right, said = False, repr(error)
        with saying:
            count += 1
            number = count
        shown = {name: headers.get(name) for name in ("x-acs-action", "x-tc-action", "x-tc-region", "user-agent")}
        tell({"request": said, "path": path, "headers": shown, "right": right})
        status, content = answer(right, number)
        octets = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(octets)))
        self.end_headers()
        self.wfile.write(octets)

    def log_message(self, *_):
        pass


def post(order):
    url, headers = order["post"], {}
    if "json" in order:
        octets, headers["Content-Type"] = json.dumps(order["json"]).encode(), "application/json"
    else:
        octets = urllib.parse.urlencode(order["form"]).encode()
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    if "sign" in order:
        from twilio.request_validator import RequestValidator

        told = order.get("told", url)
        headers["X-Twilio-Signature"] = RequestValidator(order["sign"]).compute_signature(told, order["form"])
    secured = ssl.create_default_context(cadata=order["vouches"]) if "vouches" in order else None
    if secured:
        secured.check_hostname = False
    try:
        with urllib.request.urlopen(urllib.request.Request(url, octets, headers), timeout=30, context=secured) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


server = ThreadingHTTPServer(("127.0.0.1", 0), Vendor)
tell({"listening": server.server_port})
threading.Thread(target=server.serve_forever, daemon=True).start()
for line in sys.stdin:
    status, body = post(json.loads(line))
    tell({"posted": status, "body": body})
