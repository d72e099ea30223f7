"""The script that a developer writes in an afternoon, with paho's `loop_start` and a thread for each serial port.

Usage: paho_afternoon.py HOST PORT ROOT TTY...
"""

import json
import sys
import threading
import time
import uuid

import paho.mqtt.client as mqtt
import serial

HOST, PORT, ROOT, TTYS = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]
CONTROLLER = f"{ROOT}/controller/softphone"
AVAILABILITY = f"{ROOT}/bridge/availability"

call, mic = {}, {}


def on_connect(client, _userdata, _flags, _reason_code, _properties):
    client.subscribe(f"{CONTROLLER}/call")
    client.subscribe(f"{CONTROLLER}/mic")
    client.publish(AVAILABILITY, "online", qos=1, retain=True)


def on_message(_client, _userdata, message):
    state = json.loads(message.payload)
    if message.topic.endswith("/call"):
        call.update(state)
        return
    mic.update(state)
    for port in ports:
        port.write(b"muted\n" if state["muted"] else b"live\n")


def read_button(port):
    while True:
        if port.readline() != b"press\n" or call.get("state") != "connected" or not mic:
            continue
        command = {
            "request_id": str(uuid.uuid4()),
            "action": "set_mute",
            "muted": not mic["muted"],
            "call_id": call["call_id"],
            "epoch": call["epoch"],
            "mic_seq": mic["seq"],
            "expires_at": time.time() * 1000 + 2000,
        }
        client.publish(f"{CONTROLLER}/command", json.dumps(command))


ports = [serial.Serial(tty, 115200) for tty in TTYS]
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_connect = on_connect
client.on_message = on_message
client.will_set(AVAILABILITY, "offline", qos=1, retain=True)
client.connect(HOST, PORT)
client.loop_start()
threads = [threading.Thread(target=read_button, args=[port]) for port in ports]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
