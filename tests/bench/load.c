/* The load client of `make bench`: many WebSocket connections, one thread, epoll.
 *
 *   load fanout  open N, then count and time the stamped frames all of them get
 *   load connect open, subscribe, wait for the ack and close, C at a time, for T seconds
 *   load idle    open N, say so, hold them until stdin closes
 *   load stall   open N, say so, and read nothing more until stdin closes
 *   load trace   open N, print each frame with the time of its read when stdin closes
 *   load last    open N, print for each block time (`"time":<13 digits>`) when the last frame of it was read, once stdin closes
 *
 * A stamped frame carries `"_b":"<19 digits>"`, the publisher's CLOCK_MONOTONIC in nanoseconds, anywhere in
 * its text. All modes print `ready` once every connection is open (and acknowledged, if --ack is given) and end with
 * one line of JSON. With --topics T and --each E, --send is sent E times by each connection, `%T` being another number below T
 * each time. Anything unexpected ends the program with one line on stderr and status 1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* RFC 6455's own example pair, so that the accept header can be checked without a SHA-1 here. */
#define NONCE "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define MARK "\"_b\":\""
#define MARK_BYTES (sizeof MARK - 1)
#define STAMP_DIGITS 19
/* One read takes at most this much; a frame must fit. Large enough for an l4Book snapshot of a small book. */
#define READ_BYTES (4u << 20)
/* Stock Daphne listens with a backlog of 50: more half-open handshakes than this would measure SYN retries. */
#define MAX_OPENING 32
/* Frames of one run whose spread over the connections is followed. */
#define MAX_SPREADS (1 << 20)

enum mode { FANOUT, CONNECT, IDLE, STALL, TRACE, LAST };
enum state { FREE, CONNECTING, UPGRADING, AWAITING_ACK, OPEN, CLOSING };

struct conn {
    int fd;
    enum state state;
    unsigned char *carry; /* a frame's beginning that the last read ended in */
    size_t carry_bytes, carry_room;
    int64_t began_ns;     /* when connect() was called */
    int64_t last_stamp;
    uint64_t frames;      /* stamped ones, so the number of the next in the run */
    int acks;             /* that are still to come */
    bool in_message;      /* a fragmented message has begun; only its first fragment is counted */
};

/* Logarithmic buckets, 64 per power of two: 1.6 % wide at worst. */
#define SUB_BITS 6
#define BUCKETS (64 << SUB_BITS)
struct histogram {
    uint64_t count, buckets[BUCKETS];
    int64_t max;
};

static struct {
    const char *host, *path, *send, *ack;
    char headers[4096];
    int port, connections, concurrency, opening, topics, each;
    double seconds, warmup_s, grace_s, open_deadline_s;
    uint64_t expect;
} opt = {.host = "127.0.0.1", .path = "/", .connections = 1, .concurrency = 16,
         .opening = MAX_OPENING, .each = 1, .seconds = 3,
         .warmup_s = 1, .grace_s = 1, .open_deadline_s = 60};

static enum mode mode;
static struct conn *conns;
static int epoll_fd;
static unsigned char *inbox;
static struct sockaddr_in server;
static char request[8192];
static size_t request_bytes;

static int opening, open_count;
static uint64_t total_frames, window_frames, window_bytes, unstamped, disordered, closed_by_server;
static int64_t first_frame_ns, window_start_ns, window_end_ns;
static struct histogram latency, spread;
/* Of each frame of a fan-out: when the first and the newest connection had it, and how many have it. */
static struct frame { int64_t first_ns, last_ns; int have; } *spreads;
/* Of each block time of the newest 64 k blocks: when the last frame was read. */
#define MAX_BLOCKS (1 << 16)
static struct block { int64_t time_ms, last_ns; } blocks[MAX_BLOCKS];
static FILE *trace;
static char *trace_text;
static size_t trace_bytes;

static void fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int bucket_of(int64_t value) {
    if (value < (1 << SUB_BITS)) return value < 0 ? 0 : (int)value;
    int shift = 63 - __builtin_clzll((uint64_t)value) - SUB_BITS;
    return ((shift + 1) << SUB_BITS) + (int)((value >> shift) & ((1 << SUB_BITS) - 1));
}

/* The upper edge of a bucket, so that a quantile is never flattered. */
static int64_t bucket_top(int bucket) {
    int shift = (bucket >> SUB_BITS) - 1;
    if (shift < 0) return bucket;
    return ((int64_t)((1 << SUB_BITS) + (bucket & ((1 << SUB_BITS) - 1))) + 1) << shift;
}

static void record(struct histogram *h, int64_t value) {
    h->count++;
    h->buckets[bucket_of(value)]++;
    if (value > h->max) h->max = value;
}

static double quantile_ms(const struct histogram *h, double q) {
    uint64_t rank = (uint64_t)(q * (double)h->count), seen = 0;
    for (int i = 0; i < BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen > rank) {
            int64_t top = bucket_top(i);
            return (double)(top < h->max ? top : h->max) / 1e6;
        }
    }
    return (double)h->max / 1e6;
}

static void write_all(int fd, const void *data, size_t bytes) {
    /* Requests and control frames are far smaller than a fresh socket's buffer. */
    ssize_t n = send(fd, data, bytes, MSG_NOSIGNAL);
    if (n >= 0 && (size_t)n != bytes) fail("short write of %zu bytes", bytes);
}

static void send_frame(int fd, int opcode, const void *payload, size_t bytes) {
    static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    unsigned char frame[8 + 65536];
    size_t head = 2;
    if (bytes > 65535) fail("frame of %zu bytes to send", bytes);
    frame[0] = (unsigned char)(0x80 | opcode);
    if (bytes < 126) {
        frame[1] = (unsigned char)(0x80 | bytes);
    } else {
        frame[1] = 0x80 | 126;
        frame[2] = (unsigned char)(bytes >> 8);
        frame[3] = (unsigned char)bytes;
        head = 4;
    }
    memcpy(frame + head, mask, 4);
    for (size_t i = 0; i < bytes; i++)
        frame[head + 4 + i] = ((const unsigned char *)payload)[i] ^ mask[i & 3];
    write_all(fd, frame, head + 4 + bytes);
}

static void start(struct conn *c) {
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) fail("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->began_ns = now_ns();
    c->carry_bytes = 0;
    c->in_message = false;
    c->frames = 0;
    c->acks = opt.each;
    c->state = CONNECTING;
    opening++;
    if (connect(c->fd, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    struct epoll_event e = {.events = EPOLLOUT, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e);
}

static void stop(struct conn *c) {
    close(c->fd);
    c->state = FREE;
}

static void opened(struct conn *c) {
    opening--;
    open_count++;
    c->state = OPEN;
    if (mode == STALL) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    if (mode != CONNECT) return;
    int64_t now = now_ns();
    if (now >= window_start_ns && now < window_end_ns) {
        window_frames++;
        record(&latency, now - c->began_ns);
    }
    send_frame(c->fd, 8, "\x03\xe8", 2);
    c->state = CLOSING;
}

static int64_t stamp_of(const unsigned char *text, size_t bytes) {
    static size_t where; /* all frames of a run have it in the same place, so the search runs once */
    if (bytes < MARK_BYTES + STAMP_DIGITS) return -1;
    if (where + MARK_BYTES + STAMP_DIGITS > bytes || memcmp(text + where, MARK, MARK_BYTES)) {
        const unsigned char *hit = memmem(text, bytes - STAMP_DIGITS, MARK, MARK_BYTES);
        if (!hit) return -1;
        where = (size_t)(hit - text);
    }
    int64_t stamp = 0;
    for (int i = 0; i < STAMP_DIGITS; i++) stamp = stamp * 10 + (text[where + MARK_BYTES + i] - '0');
    return stamp;
}

/* Open addressing by block time; snapshots tell times of long ago, which nobody asks for. */
static void on_block(const unsigned char *text, size_t bytes, int64_t read_ns) {
    const unsigned char *hit = memmem(text, bytes, "\"time\":", 7);
    if (!hit || hit + 20 > text + bytes) {
        unstamped++;
        return;
    }
    int64_t time_ms = 0;
    for (int i = 0; i < 13; i++) time_ms = time_ms * 10 + (hit[7 + i] - '0');
    total_frames++;
    window_bytes += bytes;
    for (size_t at = (size_t)time_ms;; at++) {
        struct block *b = &blocks[at % MAX_BLOCKS];
        if (b->time_ms && b->time_ms != time_ms) continue;
        b->time_ms = time_ms;
        b->last_ns = read_ns;
        return;
    }
}

static void on_text(struct conn *c, const unsigned char *text, size_t bytes, int64_t read_ns) {
    if (c->state == AWAITING_ACK) {
        if (memmem(text, bytes, opt.ack, strlen(opt.ack)) && --c->acks <= 0) opened(c);
        return;
    }
    if (mode == TRACE) {
        fprintf(trace, "%lld ", (long long)read_ns);
        fwrite(text, 1, bytes, trace);
        fputc('\n', trace);
        total_frames++;
        return;
    }
    if (mode == LAST) {
        on_block(text, bytes, read_ns);
        return;
    }
    int64_t stamp = stamp_of(text, bytes);
    if (stamp < 0) {
        unstamped++;
        return;
    }
    total_frames++;
    if (mode != FANOUT) return;
    if (stamp < c->last_stamp) disordered++;
    c->last_stamp = stamp;
    if (c->frames < MAX_SPREADS && !opt.topics) {
        struct frame *f = &spreads[c->frames++];
        if (!f->have++) f->first_ns = read_ns;
        f->last_ns = read_ns;
        if (f->have == opt.connections && read_ns >= window_start_ns && read_ns < window_end_ns)
            record(&spread, f->last_ns - f->first_ns);
    }
    if (!first_frame_ns) {
        first_frame_ns = read_ns;
        window_start_ns = read_ns + (int64_t)(opt.warmup_s * 1e9);
        window_end_ns = window_start_ns + (int64_t)(opt.seconds * 1e9);
    }
    if (read_ns >= window_start_ns && read_ns < window_end_ns) {
        window_frames++;
        window_bytes += bytes;
        record(&latency, read_ns - stamp);
    }
}

/* Handle all whole frames in `data`; returns how many bytes they took. */
static size_t on_frames(struct conn *c, const unsigned char *data, size_t bytes, int64_t read_ns) {
    size_t at = 0;
    while (bytes - at >= 2 && c->state != FREE) {
        const unsigned char *f = data + at;
        int opcode = f[0] & 0x0f;
        bool final = f[0] & 0x80;
        uint64_t length = f[1] & 0x7f;
        size_t head = 2;
        if (f[0] & 0x70) fail("reserved bits set: 0x%02x", f[0]);
        if (f[1] & 0x80) fail("a server must not mask");
        if (length == 126) {
            if (bytes - at < 4) break;
            length = (uint64_t)f[2] << 8 | f[3];
            head = 4;
        } else if (length == 127) {
            if (bytes - at < 10) break;
            length = 0;
            for (int i = 2; i < 10; i++) length = length << 8 | f[i];
            head = 10;
        }
        if (length > READ_BYTES / 2) fail("frame of %llu bytes", (unsigned long long)length);
        if (bytes - at < head + length) break;
        at += head + length;
        switch (opcode) {
        case 1: case 2:
            if (c->in_message) fail("a message inside a message");
            on_text(c, f + head, length, read_ns);
            c->in_message = !final;
            break;
        case 0:
            if (!c->in_message) fail("a continuation of nothing");
            c->in_message = !final;
            break;
        case 8:
            if (c->state == CLOSING) {
                stop(c);
                return at;
            }
            fail("closed by the server, code %d", length >= 2 ? f[head] << 8 | f[head + 1] : 1005);
            break;
        case 9: send_frame(c->fd, 10, f + head, length); break;
        case 10: break;
        default: fail("opcode %d", opcode);
        }
    }
    return at;
}

/* Of each E-th of the topics one, by chance, but the same in each run: hardly two connections follow the
 * same, as customers do. By a rule that 15 kinds of them came of, a server could join what it has for 33. */
static int topic_of(int connection, int k) {
    int stride = opt.topics / opt.each;
    unsigned mixed = (unsigned)connection * 2654435761u + (unsigned)k * 2246822519u;
    mixed = (mixed ^ mixed >> 15) * 2654435761u;
    return (int)((mixed ^ mixed >> 13) % (unsigned)stride) + k * stride;
}

static void say(struct conn *c) {
    for (int k = 0; k < opt.each; k++) {
        const char *hole = opt.topics ? strstr(opt.send, "%T") : NULL;
        if (!hole) {
            send_frame(c->fd, 1, opt.send, strlen(opt.send));
            continue;
        }
        char text[1024];
        int topic = topic_of((int)(c - conns), k);
        int n = snprintf(text, sizeof text, "%.*s%d%s", (int)(hole - opt.send), opt.send, topic, hole + 2);
        if (n < 0 || (size_t)n >= sizeof text) fail("--send too long");
        send_frame(c->fd, 1, text, (size_t)n);
    }
}

static size_t on_upgrade(struct conn *c, const unsigned char *data, size_t bytes) {
    const unsigned char *end = memmem(data, bytes, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t head = (size_t)(end - data) + 4;
    if (memcmp(data, "HTTP/1.1 101", 12))
        fail("handshake refused: %.*s", (int)strcspn((const char *)data, "\r\n"), (const char *)data);
    if (!memmem(data, head, ACCEPT, sizeof ACCEPT - 1)) fail("wrong Sec-WebSocket-Accept");
    if (opt.send) say(c);
    if (opt.ack) c->state = AWAITING_ACK;
    else opened(c);
    return head;
}

static void on_writable(struct conn *c) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) fail("connect: %s", strerror(error));
    write_all(c->fd, request, request_bytes);
    c->state = UPGRADING;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

static void on_readable(struct conn *c) {
    memcpy(inbox, c->carry, c->carry_bytes);
    ssize_t n = recv(c->fd, inbox + c->carry_bytes, READ_BYTES - c->carry_bytes - 1, 0);
    /* One stamp per read: everything it returned was there to be read at that moment. */
    int64_t read_ns = now_ns();
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        if (c->state == CLOSING) {
            stop(c);
            return;
        }
        if (c->state != OPEN) fail("connection lost in the handshake");
        closed_by_server++;
        open_count--;
        stop(c);
        return;
    }
    size_t bytes = c->carry_bytes + (size_t)n, at = 0;
    inbox[bytes] = 0;
    if (c->state == UPGRADING) at = on_upgrade(c, inbox, bytes);
    if (c->state != UPGRADING) at += on_frames(c, inbox + at, bytes - at, read_ns);
    if (c->state == FREE) return;
    c->carry_bytes = bytes - at;
    if (c->carry_bytes > c->carry_room) {
        c->carry_room = c->carry_bytes + 4096;
        c->carry = realloc(c->carry, c->carry_room);
    }
    memcpy(c->carry, inbox + at, c->carry_bytes);
}

/* One turn of the loop; true when stdin has closed. */
static bool turn(int timeout_ms) {
    struct epoll_event events[512];
    bool ended = false;
    int n = epoll_wait(epoll_fd, events, 512, timeout_ms);
    for (int i = 0; i < n; i++) {
        struct conn *c = events[i].data.ptr;
        if (!c) {
            char bin[256];
            if (read(0, bin, sizeof bin) <= 0) {
                ended = true;
                epoll_ctl(epoll_fd, EPOLL_CTL_DEL, 0, NULL);
            }
        } else if (c->state == CONNECTING) {
            on_writable(c);
        } else if (c->state != FREE) {
            on_readable(c);
        }
    }
    return ended;
}

static void open_all(void) {
    int64_t deadline = now_ns() + (int64_t)(opt.open_deadline_s * 1e9);
    for (int started = 0; open_count < opt.connections;) {
        while (started < opt.connections && opening < opt.opening) start(&conns[started++]);
        turn(100);
        if (now_ns() > deadline) fail("only %d of %d connections opened", open_count, opt.connections);
    }
    puts("ready");
    fflush(stdout);
}

static void report(void) {
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    double cpu_s = (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
                   (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
    printf("{\"connections\":%d,\"frames\":%llu,\"per_s\":%.1f,\"bytes_per_s\":%.0f,\"total_frames\":%llu,"
           "\"unstamped\":%llu,\"disordered\":%llu,\"closed_by_server\":%llu,\"p50_ms\":%.4f,\"p99_ms\":%.4f,"
           "\"max_ms\":%.4f,\"spread_p99_ms\":%.4f,\"cpu_s\":%.2f}\n",
           opt.connections, (unsigned long long)window_frames, (double)window_frames / opt.seconds,
           (double)window_bytes / opt.seconds, (unsigned long long)total_frames, (unsigned long long)unstamped,
           (unsigned long long)disordered, (unsigned long long)closed_by_server, quantile_ms(&latency, 0.5),
           quantile_ms(&latency, 0.99), (double)latency.max / 1e6, quantile_ms(&spread, 0.99), cpu_s);
}

static void run_fanout(void) {
    open_all();
    while (true) {
        bool ended = turn(20);
        int64_t now = now_ns();
        /* stdin closes when the publisher could not publish: then there is nothing to wait for. */
        if (ended) fail("stopped before the end; %llu frames", (unsigned long long)total_frames);
        if (!first_frame_ns || now < window_end_ns) continue;
        if (opt.expect && total_frames >= opt.expect) break;
        if (now > window_end_ns + (int64_t)(opt.grace_s * 1e9)) break;
    }
    report();
}

static void run_connect(void) {
    window_start_ns = now_ns() + (int64_t)(opt.warmup_s * 1e9);
    window_end_ns = window_start_ns + (int64_t)(opt.seconds * 1e9);
    puts("ready");
    fflush(stdout);
    while (now_ns() < window_end_ns) {
        for (int i = 0; i < opt.concurrency; i++)
            if (conns[i].state == FREE) start(&conns[i]);
        turn(20);
    }
    report();
}

static void run_until_stdin_closes(void) {
    open_all();
    while (!turn(1000)) {}
    if (trace) {
        fflush(trace);
        fwrite(trace_text, 1, trace_bytes, stdout);
    }
    if (mode == LAST) {
        for (size_t i = 0; i < MAX_BLOCKS; i++)
            if (blocks[i].time_ms) printf("%lld %lld\n", (long long)blocks[i].time_ms, (long long)blocks[i].last_ns);
    }
    report();
}

static void parse_options(int argc, char **argv) {
    static const char *names[] = {"fanout", "connect", "idle", "stall", "trace", "last"};
    if (argc < 2) fail("usage: load fanout|connect|idle|stall|trace|last --port P [--option value]...");
    for (mode = FANOUT; mode <= LAST; mode++)
        if (!strcmp(argv[1], names[mode])) break;
    if (mode > LAST) fail("unknown mode %s", argv[1]);
    for (int i = 2; i < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (i + 1 == argc) fail("%s needs a value", name);
        if (!strcmp(name, "--host")) opt.host = value;
        else if (!strcmp(name, "--port")) opt.port = atoi(value);
        else if (!strcmp(name, "--path")) opt.path = value;
        else if (!strcmp(name, "--send")) opt.send = value;
        else if (!strcmp(name, "--ack")) opt.ack = value;
        else if (!strcmp(name, "--connections")) opt.connections = atoi(value);
        else if (!strcmp(name, "--opening")) opt.opening = atoi(value);
        else if (!strcmp(name, "--topics")) opt.topics = atoi(value);
        else if (!strcmp(name, "--each")) opt.each = atoi(value);
        else if (!strcmp(name, "--concurrency")) opt.concurrency = atoi(value);
        else if (!strcmp(name, "--seconds")) opt.seconds = atof(value);
        else if (!strcmp(name, "--warmup")) opt.warmup_s = atof(value);
        else if (!strcmp(name, "--grace")) opt.grace_s = atof(value);
        else if (!strcmp(name, "--expect")) opt.expect = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--header")) {
            size_t used = strlen(opt.headers);
            if (used + strlen(value) + 3 > sizeof opt.headers) fail("headers too long");
            sprintf(opt.headers + used, "%s\r\n", value);
        } else fail("unknown option %s", name);
    }
}

int main(int argc, char **argv) {
    parse_options(argc, argv);
    server.sin_family = AF_INET;
    server.sin_port = htons((uint16_t)opt.port);
    if (inet_pton(AF_INET, opt.host, &server.sin_addr) != 1) fail("not an IPv4 address: %s", opt.host);
    int n = snprintf(request, sizeof request,
                     "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: " NONCE "\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
                     opt.path, opt.host, opt.port, opt.headers);
    if (n < 0 || (size_t)n >= sizeof request) fail("request too long");
    request_bytes = (size_t)n;
    if (mode == CONNECT) opt.connections = opt.concurrency;
    conns = calloc((size_t)opt.connections, sizeof *conns);
    if (mode == FANOUT) spreads = calloc(MAX_SPREADS, sizeof *spreads);
    inbox = malloc(READ_BYTES);
    epoll_fd = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    /* A regular file or /dev/null cannot be polled; such a stdin never ends anything. */
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &e);
    if (mode == TRACE) trace = open_memstream(&trace_text, &trace_bytes);
    if (mode == FANOUT) run_fanout();
    else if (mode == CONNECT) run_connect();
    else run_until_stdin_closes();
    return 0;
}
