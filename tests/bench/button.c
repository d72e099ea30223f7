/* Plays the mute button: presses, and times the light.
 *
 *     button FD LAMP COUNT INTERVAL_US
 *
 * FD is the master side of a pty, inherited; LAMP what the lamp shows now, `live` or `muted`. A press is the line
 * `press`; it is over when the lamp has got the line of the other state. What a bridge shows in between (`unknown`)
 * does not end it. The next press follows at once, or INTERVAL_US after the one before. Prints the nanoseconds of each
 * press, then what the lamp shows. A press that changes nothing within 5 s ends it with exit code 1.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void sleep_until_ns(int64_t moment)
{
    struct timespec t = {.tv_sec = moment / 1000000000, .tv_nsec = moment % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

/* Whether a line equal to `wanted` came before the deadline. */
static bool lamp_shows(int fd, const char *wanted, int64_t deadline_ns)
{
    static char line[256];
    static size_t length;
    char got[256];
    for (;;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        int64_t left_ms = (deadline_ns - now_ns()) / 1000000;
        if (left_ms <= 0 || poll(&ready, 1, (int)left_ms) <= 0)
            return false;
        ssize_t count = read(fd, got, sizeof got);
        if (count <= 0)
            return false;
        bool shows = false;
        for (ssize_t i = 0; i < count; i++) {
            if (got[i] == '\n') {
                line[length] = 0;
                shows = shows || strcmp(line, wanted) == 0;
                length = 0;
            } else if (got[i] != '\r' && length < sizeof line - 1)
                line[length++] = got[i];
        }
        if (shows)
            return true;
    }
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: button FD LAMP COUNT INTERVAL_US\n");
        return 2;
    }
    int fd = atoi(argv[1]), count = atoi(argv[3]);
    int64_t interval_ns = atoll(argv[4]) * 1000;
    bool muted = strcmp(argv[2], "muted") == 0;
    for (int i = 0; i < count; i++) {
        int64_t pressed = now_ns();
        if (write(fd, "press\n", 6) != 6 || !lamp_shows(fd, muted ? "live" : "muted", pressed + 5000000000)) {
            fprintf(stderr, "press %d of %d: the lamp still shows %s after 5 s\n", i + 1, count, muted ? "muted" : "live");
            return 1;
        }
        printf("%lld\n", (long long)(now_ns() - pressed));
        muted = !muted;
        if (interval_ns)
            sleep_until_ns(pressed + interval_ns);
    }
    printf("%s\n", muted ? "muted" : "live");
    return 0;
}
