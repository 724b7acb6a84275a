#!/usr/bin/env python3
"""Multimedia messages by MM7: Python's own readers of HTTP, MIME and XML are the MMSC.

    $ proto-tests/live/mms.py --proxy target/tests/lemonade-proxy
    25 passed, 0 failed, 0 skipped

No MMSC can be installed, so that this is a stub: it takes the message apart as SOAP 1.1 with attachments, and looks whether the elements of a
SubmitReq stand in the order of the schema. Ours come from the program live-push, which is built beside the proxy.
"""
import argparse
import datetime
import email.parser
import email.policy
import http.server
import pathlib
import subprocess
import sys
import threading
import xml.etree.ElementTree as ElementTree

sys.dont_write_bytecode = True

from stage import Tally, ended_early, say

NUMBER = "+447700900123"
SOAP = "{http://schemas.xmlsoap.org/soap/envelope/}"
MM7 = "{http://www.3gpp.org/ftp/Specs/archive/23_series/23.140/schema/REL-6-MM7-1-4}"
# TS 23.140, the elements of a SubmitReq.
ORDER = ["MM7Version", "SenderIdentification", "Recipients", "ServiceCode", "LinkedID", "MessageClass", "TimeStamp", "ReplyCharging",
         "EarliestDeliveryTime", "ExpiryDate", "DeliveryReport", "ReadReply", "Priority", "Subject", "ChargedParty", "DistributionIndicator", "Content"]
RESPONSE = """<?xml version="1.0"?><e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Header>
<TransactionID xmlns="{schema}" e:mustUnderstand="1">{transaction}</TransactionID></e:Header><e:Body>{body}</e:Body></e:Envelope>"""
TAKEN = """<SubmitRsp xmlns="{schema}"><MM7Version>6.8.0</MM7Version><Status><StatusCode>1000</StatusCode><StatusText>Ok</StatusText></Status>
<MessageID>1</MessageID></SubmitRsp>"""
FAULT = """<e:Fault><faultcode>e:Client</faultcode><faultstring>x</faultstring><detail><RSErrorRsp xmlns="{schema}"><MM7Version>6.8.0</MM7Version>
<Status><StatusCode>{code}</StatusCode></Status></RSErrorRsp></detail></e:Fault>"""
# What is said at this path, and what it means.
OUTCOMES = {"1000": "Accepted", "2003": "Dead", "2007": "Failed", "3000": "Later { after: None }", "4006": "Later { after: None }"}


class Mmsc(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    came = []

    def do_POST(self):
        octets = self.rfile.read(int(self.headers["Content-Length"]))
        head = "".join(f"{name}: {self.headers[name]}\r\n" for name in ("MIME-Version", "Content-Type") if self.headers[name])
        whole = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head.encode() + b"\r\n" + octets)
        self.came.append((self.headers, whole))
        envelope = ElementTree.fromstring(whole.get_payload()[0].get_payload(decode=True))
        code, transaction = self.path.strip("/"), envelope.find(f"{SOAP}Header/{MM7}TransactionID").text
        body = (TAKEN if code == "1000" else FAULT).format(schema=MM7[1:-1], code=code)
        answer = RESPONSE.format(schema=MM7[1:-1], transaction=transaction, body=body).encode()
        self.send_response(200 if code == "1000" else 500)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--proxy", default="target/release/lemonade-proxy", help="the program; live-push stands beside it")
    chosen = parser.parse_args()
    program, tally = pathlib.Path(chosen.proxy).with_name("live-push"), Tally()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mmsc)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for code, outcome in OUTCOMES.items():
        url = f"http://127.0.0.1:{server.server_port}/{code}"
        out = subprocess.run([program, "mms", url, "mem", "secret", NUMBER], check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout
        tally.check(f"MMS {code}", out.splitlines(), [f"wakeup {outcome}", f"extended {outcome}"])
    server.shutdown()
    arrived(Mmsc.came, tally)
    say(f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped")
    sys.exit(1 if tally.failed or not tally.passed else 0)


def arrived(came, tally):
    """What came to the MMSC."""
    tally.check("came", len(came), 2 * len(OUTCOMES))
    texts = ["Mail for joe@foo.com", 'Juliet "J" <juliet@example.org> wrote: Grüße\r\nRomeo, where are you?']
    transactions = set()
    for (headers, whole), text in zip(came[:2], texts):
        tally.check("HTTP", [headers["SOAPAction"], headers["Authorization"]], ['""', "Basic bWVtOnNlY3JldA=="])
        parameters = [whole.get_param(name) for name in ("type", "start")]
        tally.check("MIME", [whole.get_content_type(), *parameters, whole.defects], ["multipart/related", "text/xml", "<soap>", []])
        soap, content = whole.get_payload()
        tally.check("parts", [[one["Content-ID"], one.get_content_type()] for one in (soap, content)], [["<soap>", "text/xml"], ["<content>", "text/plain"]])
        tally.check("text", content.get_payload(decode=True).decode(content.get_content_charset()).rstrip("\r\n"), text)
        envelope = ElementTree.fromstring(soap.get_payload(decode=True))
        transaction, request = envelope.find(f"{SOAP}Header/{MM7}TransactionID"), envelope.find(f"{SOAP}Body/{MM7}SubmitReq")
        transactions.add(transaction.text)
        tally.check("envelope", [envelope.tag, transaction.get(f"{SOAP}mustUnderstand")], [f"{SOAP}Envelope", "1"])
        names = [one.tag.removeprefix(MM7) for one in request]
        tally.check("order", names, [name for name in ORDER if name in names])
        find = lambda path: request.find("/".join(MM7 + name for name in path.split("/"))).text
        found = [find(path) for path in ("SenderIdentification/VASPID", "SenderIdentification/VASID", "Recipients/To/Number", "Priority", "Subject")]
        tally.check("fields", found, ["mem", "emn", NUMBER[1:], "High", "New mail"])
        left = datetime.datetime.fromisoformat(find("ExpiryDate").replace("Z", "+00:00")) - datetime.datetime.now(datetime.timezone.utc)
        tally.check("expires", 3000 < left.total_seconds() <= 3600, True)
        tally.check("content", request.find(f"{MM7}Content").get("href"), "cid:content")
    tally.check("one notice, one transaction", len(transactions), 1)


if __name__ == "__main__":
    ended_early(main)
