"""The least that a service with these libraries does at its start: imports them, connects, says that it is online.

Usage: bare_start.py HOST PORT ROOT TTY...
"""

import argparse
import json
import logging
import sys

import hidraw
import msgspec
import paho.mqtt.client as mqtt
import pyudev
import serial
import yaml

IMPORTED = (argparse, json, logging, hidraw, msgspec, pyudev, serial, yaml)
HOST, PORT, ROOT = sys.argv[1], int(sys.argv[2]), sys.argv[3]
AVAILABILITY = f"{ROOT}/bridge/availability"


def on_connect(client, _userdata, _flags, _reason_code, _properties):
    client.publish(AVAILABILITY, "online", qos=1, retain=True)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_connect = on_connect
client.will_set(AVAILABILITY, "offline", qos=1, retain=True)
client.connect(HOST, PORT)
client.loop_forever()
