// SPDX-License-Identifier: Apache-2.0
// A workload that writes a line as soon as any of its code runs, and can flood an API server.
//
//   witness FILE [ADDRESS PORT]
//
// First it appends "<time> start <POD_UID>" to FILE, then "tick" every 50 ms, and "term" when it
// gets SIGTERM.  It starts no process, so a cgroup that allows no new process does not keep it from
// writing: no line means that none of its code ran.  Time is wall-clock, in seconds.
//
// The flood runs in its own thread.  It begins TLS handshakes and drops each one after the server
// has computed its signature, the costly part; at most 100 a second.  If the thread cannot be made,
// or the server does not answer, the lines continue.
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// A TLS 1.2 ClientHello: one record, one handshake message, no session.  The 32 random bytes are
// zero, because no handshake is completed.
static const unsigned char HELLO[] = {
    0x16, 3, 1, 0, 73,                                       // record: handshake, 73 bytes
    1, 0, 0, 69, 3, 3,                                       // ClientHello, 69 bytes, TLS 1.2
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,          // random
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,          //
    0,                                                       // no session
    0, 4, 0xc0, 0x2f, 0xc0, 0x2b,                            // ECDHE with RSA or ECDSA, AES-128-GCM
    1, 0,                                                    // no compression
    0, 24,                                                   // extensions, 24 bytes
    0, 10, 0, 4, 0, 2, 0, 0x17,                              // group P-256
    0, 13, 0, 8, 0, 6, 4, 1, 4, 3, 8, 4,                     // signatures: RSA, ECDSA, RSA-PSS
    0, 0x17, 0, 0,                                           // extended master secret
};

static int file;

static void line(const char *what) {
    struct timespec now;
    char text[160];
    const char *uid = getenv("POD_UID");
    clock_gettime(CLOCK_REALTIME, &now);
    int length = snprintf(text, sizeof text, "%lld.%06ld %s %.64s\n", (long long)now.tv_sec,
                          now.tv_nsec / 1000, what, uid ? uid : "-");
    if (write(file, text, length) != length) _exit(4);
}

static void rest(long milliseconds) {
    struct timespec time = {0, milliseconds * 1000000};
    nanosleep(&time, NULL);
}

static void term(int number) {
    (void)number;
    line("term");
    _exit(0);
}

static void shake(const struct sockaddr_in *server) {
    struct timeval patience = {1, 0};
    char byte;
    int wire = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (wire < 0) return;
    setsockopt(wire, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(wire, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(wire, (const struct sockaddr *)server, sizeof *server) == 0 &&
        send(wire, HELLO, sizeof HELLO, MSG_NOSIGNAL) == sizeof HELLO)
        (void)!recv(wire, &byte, 1, 0);
    close(wire);
}

static void *flood(void *server) {
    while (server) {
        shake(server);
        rest(10);
    }
    return NULL;
}

int main(int count, char **words) {
    static struct sockaddr_in server = {.sin_family = AF_INET};
    if (count != 2 && count != 4) return 2;
    file = open(words[1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file < 0) return 3;
    line("start");
    signal(SIGTERM, term);
    if (count == 4) {
        pthread_t thread;
        if (inet_pton(AF_INET, words[2], &server.sin_addr) != 1) return 2;
        server.sin_port = htons(atoi(words[3]));
        pthread_create(&thread, NULL, flood, &server);
    }
    for (;;) {
        rest(50);
        line("tick");
    }
}
