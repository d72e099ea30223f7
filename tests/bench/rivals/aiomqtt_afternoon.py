"""The script that a developer writes in an afternoon, with aiomqtt and the serial ports in the event loop.

Usage: aiomqtt_afternoon.py HOST PORT ROOT TTY...
"""

import asyncio
import json
import sys
import time
import uuid

import aiomqtt
import serial

HOST, PORT, ROOT, TTYS = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]
CONTROLLER = f"{ROOT}/controller/softphone"
AVAILABILITY = f"{ROOT}/bridge/availability"

call, mic = {}, {}


async def press(client):
    if call.get("state") != "connected" or not mic:
        return
    command = {
        "request_id": str(uuid.uuid4()),
        "action": "set_mute",
        "muted": not mic["muted"],
        "call_id": call["call_id"],
        "epoch": call["epoch"],
        "mic_seq": mic["seq"],
        "expires_at": time.time() * 1000 + 2000,
    }
    await client.publish(f"{CONTROLLER}/command", json.dumps(command))


async def main():
    ports = [serial.Serial(tty, 115200, timeout=0) for tty in TTYS]
    tasks = set()
    will = aiomqtt.Will(AVAILABILITY, "offline", qos=1, retain=True)
    async with aiomqtt.Client(HOST, PORT, will=will) as client:

        def readable(port):
            if port.readline() == b"press\n":
                task = asyncio.create_task(press(client))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

        for port in ports:
            asyncio.get_running_loop().add_reader(port.fileno(), readable, port)
        await client.subscribe(f"{CONTROLLER}/call")
        await client.subscribe(f"{CONTROLLER}/mic")
        await client.publish(AVAILABILITY, "online", qos=1, retain=True)
        async for message in client.messages:
            state = json.loads(message.payload)
            if message.topic.matches(f"{CONTROLLER}/call"):
                call.update(state)
                continue
            mic.update(state)
            for port in ports:
                port.write(b"muted\n" if state["muted"] else b"live\n")


asyncio.run(main())
