/* The little of MQTT 3.1.1 that the bench's C programs speak: a blocking socket, one packet per send, QoS 0 and 1.
 *
 * Enough JSON to read flat objects stands here too. Made for a broker on loopback and well-formed payloads: what does
 * not fit is refused with a message, nothing is repaired.
 */
#ifndef MQTT311_H
#define MQTT311_H

#define _GNU_SOURCE /* ppoll */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_PAYLOAD 4096
#define MAX_PACKET (MAX_PAYLOAD + 1024)

struct mqtt {
    int fd; /* -1: not connected */
    uint16_t packet_id;
    double sent_ms; /* when something was last sent: a keepalive is due after silence */
    size_t have;
    unsigned char in[4 * MAX_PACKET];
};

/* One PUBLISH; topic and payload end with a zero byte. */
struct message {
    char topic[512];
    char payload[MAX_PAYLOAD + 1];
    size_t length;
    bool retained;
};

static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static double clock_ms(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double now_ms(void)
{
    return clock_ms(CLOCK_MONOTONIC);
}

/* 16 hexadecimal digits that nobody can guess. */
static void random_id(char id[17])
{
    uint64_t bits;
    if (getrandom(&bits, sizeof bits, 0) != sizeof bits)
        die("getrandom: %s", strerror(errno));
    snprintf(id, 17, "%016llx", (unsigned long long)bits);
}

/* --- packets ------------------------------------------------------------------------------------------------------ */

static bool send_packet(struct mqtt *m, unsigned char first, const unsigned char *body, size_t length)
{
    unsigned char packet[MAX_PACKET + 5] = {first};
    size_t at = 1, left = length;
    if (length > MAX_PACKET)
        die("a packet of %zu bytes", length);
    do {
        packet[at++] = (unsigned char)((left & 127) | (left > 127 ? 128 : 0));
        left >>= 7;
    } while (left);
    memcpy(packet + at, body, length);
    m->sent_ms = now_ms();
    return m->fd >= 0 && send(m->fd, packet, at + length, MSG_NOSIGNAL) == (ssize_t)(at + length);
}

static size_t put_u16(unsigned char *at, size_t value)
{
    at[0] = (unsigned char)(value >> 8);
    at[1] = (unsigned char)value;
    return 2;
}

static size_t put_text(unsigned char *at, const char *text)
{
    size_t length = strlen(text);
    put_u16(at, length);
    memcpy(at + 2, text, length);
    return 2 + length;
}

static bool mqtt_publish(struct mqtt *m, const char *topic, const char *payload, int qos, bool retain)
{
    unsigned char body[MAX_PACKET];
    size_t length = strlen(payload);
    if (strlen(topic) + length + 4 > sizeof body)
        die("%s: %zu bytes", topic, length);
    size_t at = put_text(body, topic);
    if (qos) {
        m->packet_id = m->packet_id % 65535 + 1;
        at += put_u16(body + at, m->packet_id);
    }
    memcpy(body + at, payload, length);
    return send_packet(m, (unsigned char)(0x30 | qos << 1 | (retain ? 1 : 0)), body, at + length);
}

static bool mqtt_subscribe(struct mqtt *m, const char *filter, int qos)
{
    unsigned char body[MAX_PACKET];
    m->packet_id = m->packet_id % 65535 + 1;
    size_t at = put_u16(body, m->packet_id);
    at += put_text(body + at, filter);
    body[at++] = (unsigned char)qos;
    return send_packet(m, 0x82, body, at);
}

static bool mqtt_ping(struct mqtt *m)
{
    return send_packet(m, 0xC0, NULL, 0);
}

static void mqtt_close(struct mqtt *m)
{
    send_packet(m, 0xE0, NULL, 0);
    shutdown(m->fd, SHUT_WR);
    while (recv(m->fd, m->in, sizeof m->in, 0) > 0)
        ; /* closed with something unread, the kernel would reset the connection, so the broker would send the will */
    close(m->fd);
    m->fd = -1;
}

/* Connect and wait for CONNACK, at most 3 s; false when refused or unanswered. The will is retained, QoS 1. */
static bool mqtt_connect(
    struct mqtt *m, const char *host, int port, const char *client_id, int keepalive_s, const char *will_topic,
    const char *will)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct timeval patience = {.tv_sec = 3};
    int yes = 1;
    *m = (struct mqtt){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
        die("%s: an IPv4 address is expected", host);
    setsockopt(m->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(m->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    unsigned char body[MAX_PACKET], answer[4];
    size_t at = put_text(body, "MQTT");
    body[at++] = 4;                    /* 3.1.1 */
    body[at++] = 0x02 | 0x04 | 0x08 | 0x20; /* clean session; a will, QoS 1, retained */
    at += put_u16(body + at, (size_t)keepalive_s);
    at += put_text(body + at, client_id);
    at += put_text(body + at, will_topic);
    at += put_text(body + at, will);
    if (connect(m->fd, (struct sockaddr *)&address, sizeof address) == 0 && send_packet(m, 0x10, body, at)
        && recv(m->fd, answer, 4, MSG_WAITALL) == 4 && answer[0] == 0x20 && answer[3] == 0)
        return true;
    close(m->fd);
    m->fd = -1;
    return false;
}

/* Take what has come; false when the connection is gone. Call it when the socket is readable. */
static bool mqtt_receive(struct mqtt *m)
{
    ssize_t got = recv(m->fd, m->in + m->have, sizeof m->in - m->have, 0);
    if (got > 0)
        m->have += (size_t)got;
    return got > 0;
}

/* Take the next PUBLISH out of what was received, acknowledged as its QoS asks; false when there is none (yet). */
static bool mqtt_next(struct mqtt *m, struct message *message)
{
    while (m->have >= 2) {
        size_t at = 1, length = 0, shift = 0;
        do {
            if (at >= m->have)
                return false;
            length |= (size_t)(m->in[at] & 127) << shift;
            shift += 7;
        } while (m->in[at++] & 128);
        if (length > MAX_PACKET)
            die("a packet of %zu bytes was sent to us", length);
        if (m->have < at + length)
            return false;
        unsigned char first = m->in[0], *body = m->in + at;
        bool publish = (first & 0xF0) == 0x30;
        if (publish) {
            size_t topic = (size_t)body[0] << 8 | body[1], skip = 2 + topic + ((first & 6) ? 2 : 0);
            if (topic >= sizeof message->topic || length - skip > MAX_PAYLOAD)
                die("a message too large was sent to us");
            memcpy(message->topic, body + 2, topic);
            message->topic[topic] = 0;
            message->length = length - skip;
            memcpy(message->payload, body + skip, message->length);
            message->payload[message->length] = 0;
            message->retained = first & 1;
            if (first & 6)
                send_packet(m, 0x40, body + 2 + topic, 2);
        }
        m->have -= at + length;
        memmove(m->in, m->in + at + length, m->have);
        if (publish)
            return true;
    }
    return false;
}

/* --- JSON --------------------------------------------------------------------------------------------------------- */

/* Where the value of a key begins; NULL when it is absent or null. */
static const char *json_value(const char *json, const char *key)
{
    char quoted[80];
    snprintf(quoted, sizeof quoted, "\"%s\"", key);
    for (const char *at = strstr(json, quoted); at; at = strstr(at, quoted)) {
        at += strlen(quoted);
        at += strspn(at, " \t\r\n");
        if (*at != ':')
            continue; /* a value that reads like the key */
        at += 1 + strspn(at + 1, " \t\r\n");
        return strncmp(at, "null", 4) == 0 ? NULL : at;
    }
    return NULL;
}

/* Copy a string value; empty when it is absent. */
static void json_text(const char *json, const char *key, char *text, size_t size)
{
    const char *at = json_value(json, key);
    size_t length = 0;
    if (at && *at == '"') {
        length = strcspn(++at, "\"");
        if (length >= size)
            length = size - 1;
        memcpy(text, at, length);
    }
    text[length] = 0;
}

static double json_number(const char *json, const char *key, double otherwise)
{
    const char *at = json_value(json, key);
    return at ? strtod(at, NULL) : otherwise;
}

static bool json_true(const char *json, const char *key)
{
    const char *at = json_value(json, key);
    return at && strncmp(at, "true", 4) == 0;
}

#endif
