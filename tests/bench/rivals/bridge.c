/* The bridge's job in C, as the measure of the others: serial buttons, one controller, the contract's toggle mode.
 *
 *     bridge HOST PORT ROOT TTY...
 *
 * ROOT is `{prefix}/{station}`. A line `press` from a TTY goes through the gate (broker up, controller online, call
 * connected) to `C/command`, with request_id, epoch, call_id, mic_seq, expires_at in the controller's clock. The lamp is
 * written `muted`, `live`, `unknown` or `off`, dark before an unmute leaves. Each press is told on `bridge/event`, each
 * device with its lights on `bridge/device/{id}`. It repeats an unanswered mute once, times out after 2 s, believes a mic
 * state for two and a half heartbeats, keeps will and birth, tells the service manager, and comes back after a lost
 * broker.
 *
 * What it leaves out: configuration, hot-plug, several controllers, hold and state buttons, TLS, a terminal that is slow.
 */
#include "../mqtt311.h"

#include <sys/un.h>
#include <termios.h>

#define MAX_BUTTONS 8
#define KEEPALIVE_S 15
#define NEVER 1e300

enum light { OFF, UNKNOWN, LIVE, MUTED };
static const char *const WORDS[] = {"off", "unknown", "live", "muted"};

struct button {
    int fd;
    char id[32], line[256];
    size_t length;
    int lamp, told_light, told_pending; /* as last written; as last published */
};

struct state { /* one retained topic of the controller */
    bool known;
    char call_id[260], epoch[260];
    double seq, at_ms;
};

static struct button buttons[MAX_BUTTONS];
static int button_count;
static struct mqtt broker = {.fd = -1};
static char root[400], controller[600], availability_topic[512];
static bool online, call_connected, mic_muted;
static double heartbeat_ms, mic_arrived_ms;
static struct state call, mic;
static double offset_ms, offset_learnt_ms;
static bool offset_known;

/* The one command that is under way. `in_doubt`: an unmute was sent and is not accounted for. */
static bool pending, in_doubt, wish;
static char request_id[17], command[1024];
static double pressed_ms, expires_ms, repeat_ms;
static int pressed_on, presses;

static volatile sig_atomic_t stopping;

static void stop(int signal_number)
{
    (void)signal_number;
    stopping = 1;
}

/* --- service manager ---------------------------------------------------------------------------------------------- */

static void notify(const char *word)
{
    static int fd = -1;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    if (!path || strlen(path) >= sizeof address.sun_path)
        return;
    if (fd < 0)
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    strcpy(address.sun_path, path);
    sendto(fd, word, strlen(word), MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&address, sizeof address);
}

/* --- what is known ------------------------------------------------------------------------------------------------ */

static double mic_good_until_ms(void)
{
    if (heartbeat_ms <= 0 || !call_connected || !mic.known)
        return NEVER;
    double said_ms = mic.at_ms && offset_known ? mic.at_ms + offset_ms : mic_arrived_ms;
    return said_ms + 2.5 * heartbeat_ms;
}

static enum light light(void)
{
    if (broker.fd < 0 || !online || !call_connected)
        return OFF;
    bool of_this_call = mic.known && strcmp(mic.epoch, call.epoch) == 0 && strcmp(mic.call_id, call.call_id) == 0;
    if (!of_this_call || now_ms() >= mic_good_until_ms() || (mic_muted && in_doubt))
        return UNKNOWN;
    return mic_muted ? MUTED : LIVE;
}

/* --- what is told ------------------------------------------------------------------------------------------------- */

static void write_lamps(void)
{
    int now = light();
    for (struct button *b = buttons; b < buttons + button_count; b++) {
        char line[16];
        int length = snprintf(line, sizeof line, "%s\n", WORDS[now]);
        if (now == b->lamp)
            continue;
        b->lamp = now;
        if (write(b->fd, line, (size_t)length) != length)
            fprintf(stderr, "%s: the lamp was not written\n", b->id);
    }
}

static void publish_devices(void)
{
    int now = light(), wished = pending ? wish : -1;
    for (struct button *b = buttons; b < buttons + button_count; b++) {
        char topic[512], payload[512];
        if (now == b->told_light && wished == b->told_pending)
            continue;
        b->told_light = now;
        b->told_pending = wished;
        snprintf(topic, sizeof topic, "%s/bridge/device/%s", root, b->id);
        snprintf(
            payload, sizeof payload,
            "{\"name\":\"button\",\"kind\":\"serial\",\"press_mode\":\"toggle\",\"can\":[\"press\",\"mute_light\"],"
            "\"lights\":{\"mic\":\"%s\",\"pending\":%s}}",
            WORDS[now], wished < 0 ? "null" : wished ? "\"mute\"" : "\"unmute\"");
        if (broker.fd >= 0)
            mqtt_publish(&broker, topic, payload, 1, true);
    }
}

static void show(void)
{
    write_lamps();
    publish_devices();
}

static void publish_event(const char *outcome, const char *reason)
{
    char topic[512], payload[1024];
    snprintf(topic, sizeof topic, "%s/bridge/event", root);
    snprintf(
        payload, sizeof payload,
        "{\"press\":\"%d\",\"device\":\"%s\",\"gesture\":\"toggle\",\"outcome\":\"%s\",\"reason\":\"%s\","
        "\"request_id\":\"%s\",\"muted\":%s,\"latency_ms\":%.3f}",
        presses, buttons[pressed_on].id, outcome, reason, request_id, wish ? "true" : "false", now_ms() - pressed_ms);
    if (broker.fd >= 0)
        mqtt_publish(&broker, topic, payload, 0, false);
}

static void send_command(void)
{
    char topic[640];
    snprintf(topic, sizeof topic, "%s/command", controller);
    mqtt_publish(&broker, topic, command, 0, false);
}

/* --- a press ------------------------------------------------------------------------------------------------------ */

static const char *gate(void)
{
    if (broker.fd < 0)
        return "broker_down";
    if (!online)
        return "controller_offline";
    return call_connected ? NULL : "not_connected";
}

static void pressed(int on)
{
    bool muted_now = pending ? wish : light() == MUTED;
    const char *shut = gate();
    presses++;
    pressed_on = on;
    pressed_ms = now_ms();
    if (!shut && muted_now && !offset_known)
        shut = "clock_unknown";
    if (shut) {
        publish_event("ignored", shut);
        return;
    }
    if (pending)
        publish_event("superseded", "");
    char mic_seq[48] = "";
    pending = true;
    wish = !muted_now;
    expires_ms = pressed_ms + 2000;
    repeat_ms = wish ? pressed_ms + 1000 : NEVER;
    random_id(request_id);
    if (!wish)
        snprintf(mic_seq, sizeof mic_seq, ",\"mic_seq\":%.0f", mic.seq);
    snprintf(
        command, sizeof command,
        "{\"request_id\":\"%s\",\"action\":\"set_mute\",\"muted\":%s,\"call_id\":\"%s\",\"epoch\":\"%s\"%s,"
        "\"expires_at\":%.0f,\"source\":{\"device\":\"%s\"}}",
        request_id, wish ? "true" : "false", call.call_id, call.epoch, mic_seq,
        expires_ms - (offset_known ? offset_ms : now_ms() - clock_ms(CLOCK_REALTIME)), buttons[on].id);
    if (!wish) {
        in_doubt = true;
        write_lamps(); /* dark before the unmute leaves */
    }
    send_command();
    show();
    publish_event("sent", "");
}

static void ended(const char *outcome, const char *reason)
{
    pending = false;
    publish_event(outcome, reason);
}

/* --- what arrives ------------------------------------------------------------------------------------------------- */

static void learn_clock(double at_ms, bool retained)
{
    double seen = now_ms() - at_ms;
    if (!at_ms || retained)
        return;
    if (!offset_known || seen < offset_ms || now_ms() - offset_learnt_ms > 60e3) {
        offset_ms = seen;
        offset_learnt_ms = now_ms();
    }
    offset_known = true;
}

/* Take a state unless an older one of the same epoch; the clock of a new epoch is not known. */
static bool take(struct state *state, const struct message *message)
{
    struct state new = {.known = message->length > 0};
    json_text(message->payload, "call_id", new.call_id, sizeof new.call_id);
    json_text(message->payload, "epoch", new.epoch, sizeof new.epoch);
    new.seq = json_number(message->payload, "seq", 0);
    new.at_ms = json_number(message->payload, "at", 0);
    if (state->known && strcmp(state->epoch, new.epoch) == 0 && new.seq < state->seq)
        return false;
    if (strcmp(state->epoch, new.epoch) != 0)
        offset_known = false;
    *state = new;
    learn_clock(new.at_ms, message->retained);
    return true;
}

static void mic_arrived(const struct message *message)
{
    char answers[260];
    if (!take(&mic, message))
        return;
    mic_muted = json_true(message->payload, "muted");
    mic_arrived_ms = now_ms();
    json_text(message->payload, "request_id", answers, sizeof answers);
    if (strcmp(answers, request_id) != 0) {
        show();
        return;
    }
    bool ends = pending;
    in_doubt = pending = false;
    write_lamps();
    if (ends)
        ended(mic_muted == wish ? "confirmed" : "rejected", "");
    publish_devices();
}

static void result_arrived(const struct message *message)
{
    char answers[260], error[64];
    json_text(message->payload, "request_id", answers, sizeof answers);
    json_text(message->payload, "error", error, sizeof error);
    if (!pending || strcmp(answers, request_id) != 0 || json_true(message->payload, "ok"))
        return;
    in_doubt = false;
    ended("rejected", error);
    show();
}

static void arrived(const struct message *message)
{
    const char *level = message->topic + strlen(root);
    if (strcmp(message->topic, availability_topic) == 0) {
        if (strcmp(message->payload, "offline") == 0)
            mqtt_publish(&broker, availability_topic, "online", 1, true);
        return;
    }
    const char *leaf = strrchr(message->topic, '/');
    if (strncmp(level, "/controller/", 12) != 0)
        return;
    snprintf(controller, sizeof controller, "%.*s", (int)(leaf - message->topic), message->topic);
    if (strcmp(leaf, "/availability") == 0) {
        online = strcmp(message->payload, "offline") != 0;
        if (!online)
            call.known = call_connected = mic.known = false;
    } else if (strcmp(leaf, "/call") == 0 && take(&call, message)) {
        call_connected = strstr(message->payload, "\"connected\"") != NULL;
        heartbeat_ms = json_number(message->payload, "heartbeat_s", 0) * 1e3;
    } else if (strcmp(leaf, "/mic") == 0) {
        mic_arrived(message);
        return;
    } else if (strcmp(leaf, "/result") == 0) {
        result_arrived(message);
        return;
    }
    show();
}

/* --- edges -------------------------------------------------------------------------------------------------------- */

static void open_button(const char *path)
{
    struct button *b = &buttons[button_count++];
    struct termios settings;
    if (button_count > MAX_BUTTONS)
        die("at most %d buttons", MAX_BUTTONS);
    b->fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (b->fd < 0 || tcgetattr(b->fd, &settings) < 0)
        die("%s: %s", path, strerror(errno));
    cfmakeraw(&settings);
    cfsetspeed(&settings, B115200);
    tcsetattr(b->fd, TCSANOW, &settings);
    snprintf(b->id, sizeof b->id, "button-%d", button_count);
    b->lamp = b->told_light = b->told_pending = -2;
}

static bool read_button(int index)
{
    struct button *b = &buttons[index];
    char got[256];
    ssize_t count = read(b->fd, got, sizeof got);
    for (ssize_t i = 0; i < count; i++) {
        if (got[i] == '\n') {
            b->line[b->length] = 0;
            b->length = 0;
            if (strcmp(b->line, "press") == 0)
                pressed(index);
        } else if (b->length < sizeof b->line - 1)
            b->line[b->length++] = got[i];
    }
    return count > 0;
}

static bool broker_up(const char *host, int port)
{
    static const struct { const char *filter; int qos; } SUBSCRIPTIONS[] = {
        {"controller/+/availability", 1}, {"controller/+/call", 1}, {"controller/+/mic", 1}, {"controller/+/result", 1},
        {"bridge/availability", 1}};
    char client_id[64], topic[512];
    const char *station = strrchr(root, '/');
    snprintf(client_id, sizeof client_id, "bridge-%.40s", station ? station + 1 : root);
    if (!mqtt_connect(&broker, host, port, client_id, KEEPALIVE_S, availability_topic, "offline"))
        return false;
    for (size_t i = 0; i < sizeof SUBSCRIPTIONS / sizeof *SUBSCRIPTIONS; i++) {
        snprintf(topic, sizeof topic, "%s/%s", root, SUBSCRIPTIONS[i].filter);
        mqtt_subscribe(&broker, topic, SUBSCRIPTIONS[i].qos);
    }
    for (int i = 0; i < button_count; i++)
        buttons[i].told_light = buttons[i].told_pending = -2;
    online = true; /* one that never published an availability counts as online */
    mqtt_publish(&broker, availability_topic, "online", 1, true);
    show();
    return true;
}

static void broker_lost(void)
{
    close(broker.fd);
    broker.fd = -1;
    call.known = call_connected = mic.known = pending = false;
    show();
}

/* --- time --------------------------------------------------------------------------------------------------------- */

static double earliest(double a, double b)
{
    return a < b ? a : b;
}

static void time_came(void)
{
    if (pending && now_ms() >= expires_ms)
        ended("timed_out", "no_answer");
    else if (pending && now_ms() >= repeat_ms) {
        repeat_ms = NEVER;
        send_command();
    }
    show();
}

int main(int argc, char **argv)
{
    struct pollfd ready[MAX_BUTTONS + 1];
    struct message message;
    sigset_t blocked, unblocked;
    if (argc < 5)
        die("usage: bridge HOST PORT ROOT TTY...");
    snprintf(root, sizeof root, "%s", argv[3]);
    snprintf(availability_topic, sizeof availability_topic, "%s/bridge/availability", root);
    for (int i = 4; i < argc; i++)
        open_button(argv[i]);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGINT);
    sigprocmask(SIG_BLOCK, &blocked, &unblocked);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = stop}, NULL);
    sigaction(SIGINT, &(struct sigaction){.sa_handler = stop}, NULL);

    const char *watchdog = getenv("WATCHDOG_USEC");
    double watchdog_every_ms = watchdog ? atof(watchdog) / 2e3 : NEVER, watchdog_ms = now_ms() + watchdog_every_ms;
    double connect_ms = 0;
    notify("READY=1");
    while (!stopping) {
        double now = now_ms();
        if (now >= watchdog_ms) {
            notify("WATCHDOG=1");
            watchdog_ms = now + watchdog_every_ms;
        }
        if (broker.fd < 0 && now >= connect_ms && !broker_up(argv[1], atoi(argv[2]))) {
            unsigned char dice = 0;
            if (getrandom(&dice, 1, 0) != 1)
                die("getrandom: %s", strerror(errno));
            connect_ms = now_ms() + 500 + 20 * dice;
        }
        if (broker.fd >= 0 && now >= broker.sent_ms + KEEPALIVE_S * 1e3)
            mqtt_ping(&broker);
        if (now >= earliest(pending ? earliest(expires_ms, repeat_ms) : NEVER, mic_good_until_ms()))
            time_came();

        double wake_ms = earliest(watchdog_ms, broker.fd >= 0 ? broker.sent_ms + KEEPALIVE_S * 1e3 : connect_ms);
        double mic_until_ms = mic_good_until_ms();
        if (mic_until_ms > now)
            wake_ms = earliest(wake_ms, mic_until_ms);
        if (pending)
            wake_ms = earliest(wake_ms, earliest(expires_ms, repeat_ms));
        double sleep_ms = wake_ms > now_ms() ? wake_ms - now_ms() : 0;
        struct timespec timeout = {.tv_sec = (time_t)(sleep_ms / 1e3)};
        timeout.tv_nsec = (long)((sleep_ms - (double)timeout.tv_sec * 1e3) * 1e6);
        for (int i = 0; i < button_count; i++)
            ready[i] = (struct pollfd){.fd = buttons[i].fd, .events = POLLIN};
        ready[button_count] = (struct pollfd){.fd = broker.fd, .events = POLLIN};
        if (ppoll(ready, (nfds_t)button_count + 1, &timeout, &unblocked) <= 0)
            continue;
        for (int i = 0; i < button_count; i++)
            if (ready[i].revents && !read_button(i))
                die("%s: gone", buttons[i].id);
        if (ready[button_count].revents && !mqtt_receive(&broker))
            broker_lost();
        while (broker.fd >= 0 && mqtt_next(&broker, &message))
            arrived(&message);
    }
    for (int i = 0; i < button_count; i++)
        if (write(buttons[i].fd, "off\n", 4) != 4)
            fprintf(stderr, "%s: the lamp was not written\n", buttons[i].id);
    if (broker.fd >= 0) {
        mqtt_publish(&broker, availability_topic, "offline", 1, true);
        mqtt_close(&broker);
    }
    return 0;
}
