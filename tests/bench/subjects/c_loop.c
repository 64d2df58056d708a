/* The limit: a WebSocket fan-out in C with one epoll loop and one write per client and turn.
 *
 *   c_loop PORT REDIS_PORT CHANNEL
 *
 * Subscribes CHANNEL at a Redis on this host and sends each message, as one text frame, to every client. No keys, no
 * topics, no metering: it only shows what the kernel and one core allow.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_CLIENTS 65536
#define REDIS_BYTES (4u << 20)
/* A client this far behind is cut. */
#define MAX_WAITING_BYTES (64u << 20)
#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

struct buffer {
    unsigned char *data;
    size_t bytes, room;
};

struct client {
    int fd, slot;
    bool open, watching_writes;
    char head[4096];
    size_t head_bytes;
    struct buffer waiting;
};

static struct client *clients[MAX_CLIENTS];
static int client_count, epoll_fd, listen_fd, redis_fd;
static struct buffer tick, redis_in;

static void fail(const char *what) {
    fprintf(stderr, "c_loop: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void append(struct buffer *b, const void *data, size_t bytes) {
    if (b->bytes + bytes > b->room) {
        b->room = (b->bytes + bytes) * 2;
        b->data = realloc(b->data, b->room);
        if (!b->data) fail("realloc");
    }
    memcpy(b->data + b->bytes, data, bytes);
    b->bytes += bytes;
}

static void consume(struct buffer *b, size_t bytes) {
    b->bytes -= bytes;
    memmove(b->data, b->data + bytes, b->bytes);
}

static uint32_t rotate(uint32_t x, int n) { return x << n | x >> (32 - n); }

/* SHA-1 of at most 119 bytes: two blocks are enough for a nonce and the GUID. */
static void sha1(const unsigned char *text, size_t bytes, unsigned char digest[20]) {
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    unsigned char block[128] = {0};
    size_t blocks = bytes < 56 ? 1 : 2;
    memcpy(block, text, bytes);
    block[bytes] = 0x80;
    block[blocks * 64 - 2] = (unsigned char)(bytes * 8 >> 8);
    block[blocks * 64 - 1] = (unsigned char)(bytes * 8);
    for (size_t b = 0; b < blocks; b++) {
        uint32_t w[80], a = h[0], c = h[1], d = h[2], e = h[3], f = h[4];
        for (int i = 0; i < 16; i++) {
            const unsigned char *p = block + b * 64 + i * 4;
            w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        }
        for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        for (int i = 0; i < 80; i++) {
            uint32_t mix = i < 20 ? (c & d) | (~c & e) : i < 40 ? c ^ d ^ e : i < 60 ? (c & d) | (c & e) | (d & e) : c ^ d ^ e;
            uint32_t k = i < 20 ? 0x5a827999 : i < 40 ? 0x6ed9eba1 : i < 60 ? 0x8f1bbcdc : 0xca62c1d6;
            uint32_t next = rotate(a, 5) + mix + f + k + w[i];
            f = e, e = d, d = rotate(c, 30), c = a, a = next;
        }
        h[0] += a, h[1] += c, h[2] += d, h[3] += e, h[4] += f;
    }
    for (int i = 0; i < 20; i++) digest[i] = (unsigned char)(h[i / 4] >> (24 - i % 4 * 8));
}

static void base64(const unsigned char in[20], char out[29]) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int i = 0, o = 0; i < 21; i += 3) {
        uint32_t v = (uint32_t)in[i] << 16 | (uint32_t)in[i + 1] << 8 | (i + 2 < 20 ? in[i + 2] : 0);
        out[o++] = letters[v >> 18];
        out[o++] = letters[v >> 12 & 63];
        out[o++] = letters[v >> 6 & 63];
        out[o++] = i + 2 < 20 ? letters[v & 63] : '=';
    }
    out[28] = 0;
}

static void drop(struct client *c) {
    close(c->fd);
    clients[c->slot] = clients[--client_count];
    clients[c->slot]->slot = c->slot;
    free(c->waiting.data);
    free(c);
}

static void watch_writes(struct client *c, bool on) {
    if (c->watching_writes == on) return;
    struct epoll_event e = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
    c->watching_writes = on;
}

/* Hand over what the socket takes; keep the rest. False when the client was dropped. */
static bool hand_over(struct client *c, const unsigned char *data, size_t bytes) {
    ssize_t n = 0;
    if (!c->waiting.bytes) {
        n = send(c->fd, data, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) {
            drop(c);
            return false;
        }
        if (n < 0) n = 0;
    }
    if ((size_t)n < bytes) append(&c->waiting, data + n, bytes - (size_t)n);
    if (c->waiting.bytes > MAX_WAITING_BYTES) {
        drop(c);
        return false;
    }
    watch_writes(c, c->waiting.bytes > 0);
    return true;
}

static void on_writable(struct client *c) {
    ssize_t n = send(c->fd, c->waiting.data, c->waiting.bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) consume(&c->waiting, (size_t)n);
    watch_writes(c, c->waiting.bytes > 0);
}

static void on_handshake(struct client *c) {
    static const char name[] = "sec-websocket-key:";
    c->head[c->head_bytes] = 0;
    if (!strstr(c->head, "\r\n\r\n")) return;
    char *key = strcasestr(c->head, name), joined[120], reply[256], accept_text[29];
    unsigned char digest[20];
    if (!key) {
        drop(c);
        return;
    }
    key += sizeof name - 1;
    key += strspn(key, " ");
    int bytes = snprintf(joined, sizeof joined, "%.*s" GUID, (int)strcspn(key, "\r "), key);
    if (bytes < 0 || bytes > 100) {
        drop(c);
        return;
    }
    sha1((unsigned char *)joined, (size_t)bytes, digest);
    base64(digest, accept_text);
    bytes = snprintf(reply, sizeof reply,
                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Accept: %s\r\n\r\n", accept_text);
    if (hand_over(c, (unsigned char *)reply, (size_t)bytes)) c->open = true;
}

/* Clients only talk to shake hands; what they say afterwards is read and forgotten. */
static void on_readable(struct client *c) {
    char bin[4096];
    size_t room = sizeof c->head - 1 - c->head_bytes;
    ssize_t n = c->open ? recv(c->fd, bin, sizeof bin, 0) : recv(c->fd, c->head + c->head_bytes, room, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        drop(c);
    } else if (!c->open) {
        c->head_bytes += (size_t)n;
        on_handshake(c);
    }
}

static void on_connection(void) {
    int one = 1, fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0) return;
    if (client_count == MAX_CLIENTS) {
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct client *c = calloc(1, sizeof *c);
    c->fd = fd;
    c->slot = client_count;
    clients[client_count++] = c;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e);
}

static void frame(const unsigned char *text, size_t bytes) {
    unsigned char head[10] = {0x81};
    size_t head_bytes = bytes < 126 ? 2 : bytes < 65536 ? 4 : 10;
    head[1] = (unsigned char)(head_bytes == 2 ? bytes : head_bytes == 4 ? 126 : 127);
    for (size_t i = 2, shift = (head_bytes - 2) * 8; i < head_bytes; i++)
        head[i] = (unsigned char)(bytes >> (shift -= 8));
    append(&tick, head, head_bytes);
    append(&tick, text, bytes);
}

/* The bulk string at `at` ("$5\r\nbench\r\n"); returns where it ends, 0 when it is not whole yet. */
static size_t bulk(size_t at, const unsigned char **text, size_t *bytes) {
    unsigned char *end = memmem(redis_in.data + at, redis_in.bytes - at, "\r\n", 2);
    if (!end) return 0;
    *bytes = strtoul((char *)redis_in.data + at + 1, NULL, 10);
    *text = end + 2;
    size_t after = (size_t)(end + 2 - redis_in.data) + *bytes + 2;
    return after <= redis_in.bytes ? after : 0;
}

static void on_redis(void) {
    static unsigned char chunk[REDIS_BYTES];
    ssize_t n = recv(redis_fd, chunk, sizeof chunk, 0);
    if (n <= 0) fail("redis");
    append(&redis_in, chunk, (size_t)n);
    size_t done = 0;
    while (redis_in.bytes - done >= 4) {
        /* "*3", then "message", channel, payload; or "subscribe", channel, ":1". */
        const unsigned char *kind, *channel, *payload;
        size_t kind_bytes, channel_bytes, payload_bytes, at;
        if (!(at = bulk(done + 4, &kind, &kind_bytes))) break;
        if (!(at = bulk(at, &channel, &channel_bytes))) break;
        if (kind_bytes == 7 && !memcmp(kind, "message", 7)) {
            if (!(at = bulk(at, &payload, &payload_bytes))) break;
            frame(payload, payload_bytes);
        } else {
            unsigned char *end = memmem(redis_in.data + at, redis_in.bytes - at, "\r\n", 2);
            if (!end) break;
            at = (size_t)(end + 2 - redis_in.data);
        }
        done = at;
    }
    consume(&redis_in, done);
}

static int listening(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 1024) < 0) fail("listen");
    return fd;
}

static int subscribed(int port, const char *channel) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    char command[512];
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0) fail("redis");
    int n = snprintf(command, sizeof command, "*2\r\n$9\r\nSUBSCRIBE\r\n$%zu\r\n%s\r\n", strlen(channel), channel);
    if (send(fd, command, (size_t)n, 0) != n) fail("subscribe");
    return fd;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fputs("usage: c_loop PORT REDIS_PORT CHANNEL\n", stderr);
        return 2;
    }
    epoll_fd = epoll_create1(0);
    redis_fd = subscribed(atoi(argv[2]), argv[3]);
    listen_fd = listening(atoi(argv[1]));
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &listen_fd};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &e);
    e.data.ptr = &redis_fd;
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, redis_fd, &e);
    while (true) {
        struct epoll_event events[512];
        int n = epoll_wait(epoll_fd, events, 512, -1);
        for (int i = 0; i < n; i++) {
            void *what = events[i].data.ptr;
            if (what == &listen_fd) on_connection();
            else if (what == &redis_fd) on_redis();
            else if (events[i].events & EPOLLIN) on_readable(what);
            else if (events[i].events & EPOLLOUT) on_writable(what);
            else drop(what);
        }
        if (!tick.bytes) continue;
        for (int i = client_count; i-- > 0;)
            if (clients[i]->open) hand_over(clients[i], tick.data, tick.bytes);
        tick.bytes = 0;
    }
}
