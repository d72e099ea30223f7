/* The other end of every row: a session controller with one call, for the bench.
 *
 *     controller HOST PORT ROOT NAME STATE HEARTBEAT_S
 *
 * ROOT is `{prefix}/{station}`, STATE the state of its call (`connected`, `disconnected`). It follows the contract: mic,
 * call, `online` at the start and whenever the bridge comes online; a command is checked, acted on once, answered with
 * the mic state, then the result; heartbeats while connected. Nobody else touches its microphone, so `mic_seq` refuses
 * nothing here. At SIGTERM it goes offline and prints what it counted.
 */
#include "mqtt311.h"

#define REMEMBERED 64

static struct mqtt broker;
static char availability_topic[512], call_topic[512], mic_topic[512], command_topic[512], result_topic[512];
static char bridge_topic[512];
static char epoch[17];
static const char *call_state;
static double heartbeat_s, unix_ms_at_zero, mic_sent_ms;
static bool muted;
static long seq, commands, acted, refused, repeated;
static char answered[REMEMBERED][260];
static volatile sig_atomic_t stopping;

static void stop(int signal_number)
{
    (void)signal_number;
    stopping = 1;
}

/* Start time + monotonic time: a clock that never steps. */
static double contract_now_ms(void)
{
    return unix_ms_at_zero + now_ms();
}

static void publish_mic(const char *request_id)
{
    char payload[1024], request[300] = "";
    if (request_id)
        snprintf(request, sizeof request, ",\"request_id\":\"%s\"", request_id);
    snprintf(
        payload, sizeof payload, "{\"muted\":%s,\"call_id\":\"call-1\",\"epoch\":\"%s\",\"seq\":%ld,\"at\":%.3f%s}",
        muted ? "true" : "false", epoch, ++seq, contract_now_ms(), request);
    mqtt_publish(&broker, mic_topic, payload, 1, true);
    mic_sent_ms = now_ms();
}

static void publish_all(void)
{
    char payload[1024];
    publish_mic(NULL);
    snprintf(
        payload, sizeof payload,
        "{\"state\":\"%s\",\"call_id\":\"call-1\",\"epoch\":\"%s\",\"seq\":%ld,\"at\":%.3f,\"heartbeat_s\":%g}", call_state,
        epoch, ++seq, contract_now_ms(), heartbeat_s);
    mqtt_publish(&broker, call_topic, payload, 1, true);
    mqtt_publish(&broker, availability_topic, "online", 1, true);
}

/* Why a command is refused; NULL: it is not. */
static const char *refusal(const char *command)
{
    char action[32], of_call[260], of_epoch[260];
    json_text(command, "action", action, sizeof action);
    json_text(command, "call_id", of_call, sizeof of_call);
    json_text(command, "epoch", of_epoch, sizeof of_epoch);
    if (strcmp(call_state, "connected") != 0)
        return "not_connected";
    if (strcmp(action, "set_mute") != 0 || !json_value(command, "muted"))
        return "failed";
    if ((*of_call && strcmp(of_call, "call-1") != 0) || (*of_epoch && strcmp(of_epoch, epoch) != 0))
        return "stale";
    return contract_now_ms() > json_number(command, "expires_at", 0) ? "expired" : NULL;
}

static bool seen_before(const char *request_id)
{
    static size_t next;
    for (size_t i = 0; i < REMEMBERED; i++)
        if (strcmp(answered[i], request_id) == 0)
            return true;
    snprintf(answered[next++ % REMEMBERED], sizeof answered[0], "%s", request_id);
    return false;
}

static void obey(const char *command)
{
    char request_id[257], payload[512];
    const char *error = refusal(command);
    json_text(command, "request_id", request_id, sizeof request_id);
    commands++;
    if (!error) {
        if (seen_before(request_id))
            repeated++;
        else {
            muted = json_true(command, "muted");
            acted++;
        }
        publish_mic(request_id);
        snprintf(payload, sizeof payload, "{\"request_id\":\"%s\",\"ok\":true}", request_id);
    } else {
        refused++;
        snprintf(payload, sizeof payload, "{\"request_id\":\"%s\",\"ok\":false,\"error\":\"%s\"}", request_id, error);
    }
    mqtt_publish(&broker, result_topic, payload, 1, false);
}

static void arrived(const struct message *message)
{
    if (strcmp(message->topic, command_topic) == 0)
        obey(message->payload);
    else if (strcmp(message->topic, bridge_topic) == 0 && strcmp(message->payload, "online") == 0)
        publish_all();
    else if (strcmp(message->topic, availability_topic) == 0 && strcmp(message->payload, "offline") == 0)
        mqtt_publish(&broker, availability_topic, "online", 1, true);
}

/* Until when to sleep: the next heartbeat, else the keepalive. */
static double due_ms(void)
{
    double keepalive = broker.sent_ms + 30e3;
    double heartbeat = strcmp(call_state, "connected") == 0 && heartbeat_s > 0 ? mic_sent_ms + heartbeat_s * 1e3 : keepalive;
    return heartbeat < keepalive ? heartbeat : keepalive;
}

static void run(const sigset_t *unblocked)
{
    struct message message;
    while (!stopping) {
        struct pollfd ready = {.fd = broker.fd, .events = POLLIN};
        double left_ms = due_ms() - now_ms();
        struct timespec timeout = {0};
        if (left_ms > 0) {
            timeout.tv_sec = (time_t)(left_ms / 1e3);
            timeout.tv_nsec = (long)((left_ms - (double)timeout.tv_sec * 1e3) * 1e6);
        }
        int happened = ppoll(&ready, 1, &timeout, unblocked);
        if (happened == 0 && broker.sent_ms + 30e3 <= now_ms())
            mqtt_ping(&broker);
        else if (happened == 0)
            publish_mic(NULL);
        else if (happened > 0) {
            if (!mqtt_receive(&broker))
                die("the broker is gone");
            while (mqtt_next(&broker, &message))
                arrived(&message);
        }
    }
}

int main(int argc, char **argv)
{
    sigset_t blocked, unblocked;
    char prefix[400], client_id[64];
    if (argc != 7)
        die("usage: controller HOST PORT ROOT NAME STATE HEARTBEAT_S");
    call_state = argv[5];
    heartbeat_s = atof(argv[6]);
    unix_ms_at_zero = clock_ms(CLOCK_REALTIME) - now_ms();
    random_id(epoch);
    snprintf(prefix, sizeof prefix, "%s/controller/%s", argv[3], argv[4]);
    snprintf(availability_topic, sizeof availability_topic, "%s/availability", prefix);
    snprintf(call_topic, sizeof call_topic, "%s/call", prefix);
    snprintf(mic_topic, sizeof mic_topic, "%s/mic", prefix);
    snprintf(command_topic, sizeof command_topic, "%s/command", prefix);
    snprintf(result_topic, sizeof result_topic, "%s/result", prefix);
    snprintf(bridge_topic, sizeof bridge_topic, "%.400s/bridge/availability", argv[3]);
    snprintf(client_id, sizeof client_id, "controller-%s", epoch);

    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigprocmask(SIG_BLOCK, &blocked, &unblocked);
    sigdelset(&unblocked, SIGTERM);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = stop}, NULL);

    if (!mqtt_connect(&broker, argv[1], atoi(argv[2]), client_id, 60, availability_topic, "offline"))
        die("%s:%s: no broker, or it refused", argv[1], argv[2]);
    mqtt_subscribe(&broker, command_topic, 0);
    mqtt_subscribe(&broker, availability_topic, 1);
    mqtt_subscribe(&broker, bridge_topic, 1);
    publish_all();
    run(&unblocked);
    mqtt_publish(&broker, availability_topic, "offline", 1, true);
    mqtt_close(&broker);
    printf("{\"commands\": %ld, \"acted\": %ld, \"refused\": %ld, \"repeated\": %ld}\n", commands, acted, refused, repeated);
    return 0;
}
